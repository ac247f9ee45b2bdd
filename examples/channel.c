/*
 * A Tao channel: both ends know which program the other is.
 *
 *   cc channel.c -o channel $(pkg-config --cflags --libs libtao)
 *   tao trust ./channel && tao key new talk --for ./channel
 *   tao run ./channel serve 4433 &
 *   tao run ./channel say 4433 hello
 *
 * The peer must run the same executable as this one, whatever its arguments.
 */
#include <stdio.h>
#include <string.h>

#include <tao/tao.h>

/* HOST.Measured([executable], ...): the second extension of a program's name. */
static enum tao_err same_program(const struct tao_node *peer, void *arg)
{
	const struct tao_node *own = tao_prin_ext(arg, 1), *other = tao_prin_ext(peer, 1);

	if (own != NULL && other != NULL && own->n_kid > 0 && other->n_kid > 0 &&
	    strcmp(own->text, other->text) == 0 && tao_node_equal(own->kid[0], other->kid[0]))
		return TAO_OK;
	return tao_fail(TAO_EDENIED, "that is another program: talk to your own kind");
}

static enum tao_err serve(const struct tao_channel_conf *conf, const char *port)
{
	struct tao_listener *listener;
	struct tao_channel *channel;
	char line[256];
	size_t n;
	enum tao_err e = tao_channel_listen(conf, "127.0.0.1", port, &listener);

	if (e == TAO_OK)
		printf("listening on port %d\n", tao_listener_port(listener));
	while (e == TAO_OK) {
		fflush(stdout);
		e = tao_channel_accept(listener, -1, &channel);
		if (e == TAO_OK) {
			if (tao_channel_read(channel, line, sizeof line, &n) == TAO_OK) {
				printf("heard: %.*s\n", (int)n, line);
				tao_channel_write(channel, line, n);
			}
			tao_channel_close(channel);
		} else if (e != TAO_ESYS) {
			printf("refused: %s\n", tao_why());
			e = TAO_OK;
		}
	}
	tao_listener_close(listener);
	return e;
}

static enum tao_err say(const struct tao_channel_conf *conf, const char *port, const char *text)
{
	struct tao_channel *channel;
	char line[256];
	size_t n = 0;
	enum tao_err e = tao_channel_dial(conf, "127.0.0.1", port, &channel);

	if (e == TAO_OK)
		e = tao_channel_write(channel, text, strlen(text));
	if (e == TAO_OK)
		e = tao_channel_read(channel, line, sizeof line, &n);
	if (e == TAO_OK)
		printf("answer: %.*s\n", (int)n, line);
	tao_channel_close(channel);
	return e;
}

int main(int argc, char **argv)
{
	struct tao_channel_conf conf = { .key = "talk", .authorise = same_program };
	struct tao_parent *host;
	struct tao_node *name = NULL;
	enum tao_err e = tao_parent_open(&host);

	if (e == TAO_OK)
		e = tao_parent_name(host, &name);
	conf.arg = name;
	if (e == TAO_OK && argc == 3 && strcmp(argv[1], "serve") == 0)
		e = serve(&conf, argv[2]);
	else if (e == TAO_OK && argc == 4 && strcmp(argv[1], "say") == 0)
		e = say(&conf, argv[2], argv[3]);
	else if (e == TAO_OK)
		e = tao_fail(TAO_EINVAL, "usage: channel serve PORT | channel say PORT TEXT");
	if (e != TAO_OK)
		fprintf(stderr, "channel: %s\n", tao_why());
	tao_node_free(name);
	tao_parent_close(host);
	return e == TAO_OK ? 0 : 1;
}
