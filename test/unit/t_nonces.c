/* Nonces of the groups' client shares: how long the process keeps them. Clocks, process id and host
 * are the test's. */
#include <sys/types.h>
#include <time.h>

static time_t day_clock(time_t *to);
static int run_clock(clockid_t id, struct timespec *to);
static pid_t process(void);
#define time day_clock
#define clock_gettime run_clock
#define getpid process
#include "../../provider/group.c"
#include "../../provider/reply.c"
#undef time
#undef clock_gettime
#undef getpid

#include "tap.h"

#define LIFE 300
#define EPOCH_BYTES "\0\0\0\7"

static time_t now = 20000 * (time_t)DAY + 50000, up = 1000;
static pid_t pid = 100;
static int asked;
static uint16_t given;
static enum tao_err answer = TAO_OK;
static time_t late; /* seconds that an answer takes */

static time_t day_clock(time_t *to)
{
	(void)to;
	return now;
}

static int run_clock(clockid_t id, struct timespec *to)
{
	*to = (struct timespec){ id == CLOCK_BOOTTIME ? up : 0, 0 };
	return 0;
}

static pid_t process(void)
{
	return pid;
}

enum tao_err prov_call(struct prov *p, const char *op, const ProtobufCMessage *req,
                       struct tao_buf *reply)
{
	return prov_call_while(p, op, req, NULL, reply);
}

enum tao_err prov_call_while(struct prov *p, const char *op, const ProtobufCMessage *req,
                             struct tao_meanwhile *w, struct tao_buf *reply)
{
	(void)w;
	Tao__GroupNoncesResponse r = TAO__GROUP_NONCES_RESPONSE__INIT;
	uint8_t nonces[GROUP_BATCH][GROUP_NONCE] = { { 0 } };

	(void)p;
	asked++;
	if (answer != TAO_OK)
		return tao_fail(answer, "no");
	if (strcmp(op, "Tao.GroupNonces") != 0 ||
	    ((const Tao__GroupNoncesRequest *)req)->n != GROUP_BATCH)
		return tao_fail(TAO_EPROTO, "another request");
	for (int i = 0; i < GROUP_BATCH; i++)
		memcpy(nonces[i], &(uint16_t){ ++given }, 2);
	r.epoch = 7;
	r.id.data = (uint8_t *)"sixteen bytes id";
	r.id.len = GROUP_ID;
	r.nonces.data = nonces[0];
	r.nonces.len = sizeof nonces;
	r.seconds = LIFE;
	tao_pb_pack(&r.base, reply);
	now += late;
	up += late;
	return tao_buf_err(reply);
}

int prov_reason(const struct prov *p, enum tao_err e)
{
	(void)p;
	return (int)e;
}

int prov_raise_at(struct prov *p, const char *file, int line, const char *func, int reason,
                  const char *fmt, ...)
{
	(void)p, (void)file, (void)line, (void)func, (void)reason, (void)fmt;
	return 0;
}

/* The number in a tail's nonce; -1: there was none. */
static int draw_one(struct prov *p)
{
	uint8_t tail[GROUP_TAIL];
	uint16_t number;

	if (group_tail(p, tail) != TAO_OK)
		return -1;
	memcpy(&number, tail + 1 + 4 + GROUP_ID, 2);
	return memcmp(tail, "\1" EPOCH_BYTES "sixteen bytes id", 1 + 4 + GROUP_ID) == 0
	       ? number : -2;
}

/* Draws one; whether that asked the host. */
static int asks(struct prov *p)
{
	int before = asked, got = draw_one(p);

	if (got < 0)
		printf("# no nonce: %d\n", got);
	return asked - before;
}

static void test_batch(struct prov *p)
{
	static uint8_t seen[1 << 16];
	int twice = 0, got;

	for (int i = 0; i < 3 * GROUP_BATCH; i++) {
		got = draw_one(p);
		twice += got <= 0 || seen[got]++;
	}
	ok(twice == 0 && asked == 3, "%d nonces, none twice, in three requests", 3 * GROUP_BATCH);
}

static void test_times(struct prov *p)
{
	ok(asks(p) == 1 && asks(p) == 0, "a batch");
	up += LIFE / 2 - 1;
	ok(asks(p) == 0, "lasts half of its time: the rest is for the handshake");
	up += 1;
	ok(asks(p) == 1, "and no longer");
	late = LIFE / 2;
	group_drop_nonces(p);
	ok(asks(p) == 1 && asks(p) == 1, "its time begins when it is asked for");
	late = 0;
	group_drop_nonces(p);
	now = 20001 * (time_t)DAY - 1;
	ok(asks(p) == 1 && asks(p) == 0, "a batch of the day's last second");
	now++;
	ok(asks(p) == 1 && asks(p) == 0, "is dropped when the next day, and epoch, begins");
	now -= 1;
	ok(asks(p) == 1, "or when the clock is set back to the day before");
}

static void test_processes(struct prov *p)
{
	static uint8_t seen[1 << 16];
	int mine, childs;

	group_drop_nonces(p);
	mine = draw_one(p);
	seen[mine] = 1;
	pid++;
	ok(asks(p) == 1, "a child draws its own");
	childs = draw_one(p);
	ok(childs > 0 && !seen[childs], "and none of its parent's");
}

static void test_failures(struct prov *p)
{
	group_drop_nonces(p);
	answer = TAO_ENOHOST;
	ok(draw_one(p) == -1, "no host, no nonce");
	ok(atomic_load(&p->nonces) == NULL, "and nothing is kept");
	answer = TAO_OK;
	ok(draw_one(p) > 0, "with a host there is one");
	group_drop_nonces(p);
	ok(atomic_load(&p->nonces) == NULL, "dropped");
}

/* What two threads do that meet: each has a batch in its hands, and puts it back. */
static void test_two_threads(struct prov *p)
{
	struct prov_nonces *a, *b;
	int before = asked;

	draw_one(p);
	a = take_good(p);
	draw_one(p);
	b = take_good(p);
	put_back(p, a);
	put_back(p, b);
	ok(asked == before + 2, "a thread that finds no batch asks for its own");
	for (int i = 0; i < 2 * (GROUP_BATCH - 1); i++)
		draw_one(p);
	ok(asked == before + 2, "and both are used up before there is a third");
	ok(asks(p) == 1, "then there is");
	group_drop_nonces(p);
}

int main(void)
{
	static struct prov p;

	test_batch(&p);
	test_times(&p);
	test_processes(&p);
	test_failures(&p);
	test_two_threads(&p);
	return done();
}
