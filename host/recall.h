/*
 * Recall: hosted programs outlive the taod that named them.
 *
 * A program keeps running when taod ends (a crash, kill -9, an upgrade), but
 * its door is dead then: the other end went with the old taod. It connects by
 * the socket's path, and the next taod must know whose that process is. So each
 * instance has a file, DIR/host/instances/ID, mode 0600 in a directory of mode
 * 0700: an InstanceRecord (tao/tao.proto) in a sealed blob of kind 4, which no
 * other host opens and nobody writes but this host. It is written
 *
 *   - when the program is registered, before it starts;
 *   - at Tao.ExtendTaoName, before the longer name counts: a name never gets shorter;
 *   - a moment after a process of the instance identified itself for the first
 *     time, by a thread of its own, each file at most once in RECALL_PAUSE
 *     seconds, however fast a program forks; and now and then for the count of operations
 *
 * and removed when the instance is over, or kept under another name (.ended-ID) to be
 * written again for the next one, as making a file costs much: such files are removed when
 * taod ends or starts. It has to survive taod, not the
 * machine, so it is renamed into place but not flushed to the disk: it names
 * the boot (and the namespace of process numbers) in which it means something.
 *
 * Members. With its first process gone (a daemon has forked away), descent
 * tells nothing. So processes that identified themselves are remembered by
 * number and start time, at most RECALL_MEMBERS living ones of an instance;
 * and their parents with them, if they run the same executable and started no
 * earlier than the instance (a master that never asked for anything itself).
 * Who descends from a member belongs to its instance, as with the first process.
 *
 * At the start of taod each file is opened and compared with what runs. The
 * registered process or a member must live, by start time, a member with the
 * executable that was measured; the name must be one under this host and
 * domain. What is of another boot or has ended is removed silently, what does
 * not open with a line in the log. A file of a newer version is left for the
 * newer taod. What the registered process executes now is not looked at here:
 * each connection proves that by itself, as ever.
 *
 * A disk that is full or read-only takes nothing from a running host: a program
 * that has no file is not recalled, which the log says. Only where an old file can be
 * neither replaced nor removed, Tao.ExtendTaoName is refused.
 *
 * Errors: TAO_EFORMAT, TAO_EALTERED, TAO_EOTHERHOST (not a record of this host), TAO_EVERSION
 * (of a newer one), TAO_ENOTFOUND (of another boot), those of files.
 */
#ifndef HOST_RECALL_H
#define HOST_RECALL_H

#include <stdint.h>
#include <sys/types.h>

#include "../tao/buf.h"
#include "../tao/key.h"
#include "../tao/seal.h"

#define RECALL_MEMBERS 64 /* processes remembered of one instance */
#define RECALL_PAUSE 1    /* seconds between two writings of one file */
#define RECALL_REFRESH 30 /* seconds between looks at what else changed */
#define RECALL_BOOT_MAX 96 /* bytes of a boot's name */

struct host;
struct instance;
struct tao_node;
struct recall; /* all of it */
struct kept;   /* what it has of one instance: instance->kept */

struct member {
	pid_t pid;
	uint64_t start; /* clock ticks since boot: tells a number that is used again */
};

/* ---- a taod's life ---- */

/* Makes DIR/host/instances, registers the instances that still run, starts the
 * writing thread. Needs registry, measurer and loop, and that nobody connects
 * yet. Fails only when out of memory: without a directory to write to, nothing is kept. */
enum tao_err recall_open(struct host *h);
/* Before the loop is stopped: writes what is due; from here on no file is removed. NULL-safe. */
void recall_close(struct host *h);
void recall_free(struct recall *r); /* after the loop; NULL-safe */
uint32_t recall_count(const struct recall *r); /* of instances recalled at the start */

/* ---- an instance's life ---- */

/* Writes its file. A failure is for a notice: the instance is served all the same. */
enum tao_err recall_add(struct host *h, struct instance *i);
/* A process of it, running its executable, identified itself. Cheap; writes nothing by itself. */
void recall_member(struct instance *i, pid_t pid, uint64_t start);
/* instance_extend(), and its file says so first. */
enum tao_err recall_extend(struct host *h, struct instance *i, const struct tao_node *subprin);
/* Something else of it changed: its file is written anew by and by. */
void recall_changed(struct instance *i);
/* It is over: its file goes. */
void recall_over(struct instance *i);
/* With the last reference to the instance: frees. NULL-safe. */
void recall_forget(struct kept *k);
/* The instance with that member, with a reference, or NULL. r may be NULL. */
struct instance *recall_find(struct recall *r, pid_t pid, uint64_t start);
/* With its first process gone and no door: watches for the end of a member that lives, if any. */
void recall_watch(struct host *h, struct instance *i);

/* ---- the file's bytes (recall_file.c) ---- */

/* This boot and namespace of process numbers, as text. */
enum tao_err recall_boot(char boot[RECALL_BOOT_MAX]);
/* name: instead of the instance's own; NULL: that. */
enum tao_err recall_pack(const struct tao_sealer *s, const char *boot, struct instance *i,
                         const struct tao_node *name, const struct member *members, size_t n,
                         struct tao_buf *blob);
/* An instance that no registry has yet, with one reference. */
enum tao_err recall_unpack(const struct tao_sealer *s, const char *boot, const void *blob,
                           size_t blob_n, struct instance **out,
                           struct member members[RECALL_MEMBERS], size_t *n);
/* The same of what was in the blob. */
enum tao_err recall_parse(const char *boot, const void *plain, size_t plain_n,
                          struct instance **out, struct member members[RECALL_MEMBERS], size_t *n);

#endif
