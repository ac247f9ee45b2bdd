#include "elf.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tao/buf.h"

#define PHDRS_MAX 128     /* program headers */
#define DYN_MAX 4096      /* entries of the dynamic section */
#define DYN_CHUNK 64      /* read at a time */
#define NEEDED_MAX 512    /* DT_NEEDED entries of one file */
#define NAME_LEN_MAX 4096 /* bytes of one name or search path, with its NUL */

#define EHDR_LEN 64
#define PHDR_LEN 56
#define DYN_LEN 16

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#else
#error "add this machine's ELF number here and its directories to libs.c"
#endif

struct segment {
	uint64_t vaddr, offset, filesz;
};

struct image {
	int fd;
	const char *name;
	struct segment load[PHDRS_MAX], dynamic, interp;
	size_t load_n;
	int has_dynamic, has_interp;
};

/* Addresses and string offsets that the dynamic section gives. */
struct dynamic {
	uint64_t strtab;
	uint64_t soname, rpath, runpath;
	int has_soname, has_rpath, has_runpath;
	uint64_t needed[NEEDED_MAX];
	size_t needed_n;
	int nodeflib;
};

static uint64_t little_endian(struct tao_rd *r, size_t n)
{
	const uint8_t *p = tao_rd_bytes(r, n);
	uint64_t v = 0;

	for (size_t i = n; p != NULL && i > 0; i--)
		v = v << 8 | p[i - 1];
	return v;
}

static uint16_t le16(struct tao_rd *r)
{
	return (uint16_t)little_endian(r, 2);
}

static uint32_t le32(struct tao_rd *r)
{
	return (uint32_t)little_endian(r, 4);
}

static uint64_t le64(struct tao_rd *r)
{
	return little_endian(r, 8);
}

static enum tao_err damaged(const struct image *im, const char *what)
{
	return tao_fail(TAO_EFORMAT, "%s is a damaged ELF file (%s): install it again", im->name,
	                what);
}

/* As many of n bytes as the file has at offset. */
static enum tao_err read_some(const struct image *im, uint64_t offset, void *p, size_t n,
                              size_t *got)
{
	*got = 0;
	if (offset > INT64_MAX - n)
		return damaged(im, "an offset is beyond every file's end");
	while (*got < n) {
		ssize_t r = pread(im->fd, (uint8_t *)p + *got, n - *got, (off_t)(offset + *got));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return tao_fail_sys("cannot read %s", im->name);
		if (r == 0)
			break;
		*got += (size_t)r;
	}
	return TAO_OK;
}

static enum tao_err read_all(const struct image *im, uint64_t offset, void *p, size_t n)
{
	size_t got;
	enum tao_err e = read_some(im, offset, p, n, &got);

	return e == TAO_OK && got < n ? damaged(im, "it ends too early") : e;
}

/* The file offset of an address and how many bytes of the file follow it there. A later
 * segment is mapped over an earlier one. */
static int locate(const struct image *im, uint64_t vaddr, uint64_t *offset, uint64_t *left)
{
	for (size_t i = im->load_n; i > 0; i--) {
		const struct segment *s = &im->load[i - 1];

		if (vaddr >= s->vaddr && vaddr - s->vaddr < s->filesz &&
		    s->offset <= UINT64_MAX - s->filesz) {
			*offset = s->offset + (vaddr - s->vaddr);
			*left = s->filesz - (vaddr - s->vaddr);
			return 1;
		}
	}
	return 0;
}

static enum tao_err read_header(const struct image *im, int *foreign, uint64_t *phoff,
                                size_t *phnum)
{
	uint8_t raw[EHDR_LEN] = { 0 };
	struct tao_rd r = tao_rd_of(raw, sizeof raw);
	size_t got;
	uint16_t type, machine, phentsize;
	enum tao_err e = read_some(im, 0, raw, sizeof raw, &got);

	if (e != TAO_OK)
		return e;
	if (got < SELFMAG || memcmp(raw, ELFMAG, SELFMAG) != 0)
		return tao_fail(TAO_EFORMAT, "%s is not an ELF file: name a program", im->name);
	if (got < sizeof raw)
		return damaged(im, "it ends too early");
	tao_rd_bytes(&r, EI_NIDENT);
	type = le16(&r);
	machine = le16(&r);
	if (raw[EI_CLASS] != ELFCLASS64 || raw[EI_DATA] != ELFDATA2LSB || machine != MACHINE) {
		*foreign = 1;
		return tao_fail(TAO_EFORMAT, "%s was built for another machine than this one: "
		                "install this machine's", im->name);
	}
	le32(&r); /* version */
	le64(&r); /* entry point */
	*phoff = le64(&r);
	le64(&r); /* section headers */
	le32(&r); /* flags */
	le16(&r); /* length of this header */
	phentsize = le16(&r);
	*phnum = le16(&r);
	if (type != ET_EXEC && type != ET_DYN)
		return tao_fail(TAO_EFORMAT, "%s is an ELF file but neither a program nor a "
		                "library", im->name);
	if (phentsize != PHDR_LEN)
		return damaged(im, "program headers of an unknown size");
	if (*phnum > PHDRS_MAX)
		return tao_fail(TAO_ELIMIT, "%s has more than %d program headers", im->name,
		                PHDRS_MAX);
	return TAO_OK;
}

static enum tao_err keep_segment(struct image *im, uint32_t type, const struct segment *s)
{
	struct segment *to = type == PT_DYNAMIC ? &im->dynamic : &im->interp;
	int *has = type == PT_DYNAMIC ? &im->has_dynamic : &im->has_interp;

	if (type == PT_LOAD) {
		im->load[im->load_n++] = *s;
		return TAO_OK;
	}
	if (type != PT_DYNAMIC && type != PT_INTERP)
		return TAO_OK;
	/* Kernel and loader disagree on which of two counts. */
	if (*has)
		return damaged(im, "two program headers where one is allowed");
	*has = 1;
	*to = *s;
	return TAO_OK;
}

static enum tao_err read_segments(struct image *im, uint64_t phoff, size_t phnum)
{
	uint8_t raw[PHDRS_MAX * PHDR_LEN] = { 0 };
	struct tao_rd r = tao_rd_of(raw, phnum * PHDR_LEN);
	enum tao_err e = read_all(im, phoff, raw, phnum * PHDR_LEN);

	for (size_t i = 0; e == TAO_OK && i < phnum; i++) {
		struct segment s;
		uint32_t type = le32(&r);

		le32(&r); /* flags */
		s.offset = le64(&r);
		s.vaddr = le64(&r);
		le64(&r); /* physical address */
		s.filesz = le64(&r);
		le64(&r); /* size in memory */
		le64(&r); /* alignment */
		e = keep_segment(im, type, &s);
	}
	return e;
}

static void keep_entry(struct dynamic *d, uint64_t tag, uint64_t value)
{
	switch (tag) {
	case DT_STRTAB:
		d->strtab = value;
		break;
	case DT_SONAME:
		d->soname = value;
		d->has_soname = 1;
		break;
	case DT_RPATH:
		d->rpath = value;
		d->has_rpath = 1;
		break;
	case DT_RUNPATH:
		d->runpath = value;
		d->has_runpath = 1;
		break;
	case DT_FLAGS_1:
		d->nodeflib = (value & DF_1_NODEFLIB) != 0;
		break;
	}
}

static enum tao_err check_entry(const struct image *im, struct dynamic *d, uint64_t tag,
                                uint64_t value)
{
	if (tag == DT_AUXILIARY || tag == DT_FILTER || tag == DT_AUDIT || tag == DT_DEPAUDIT)
		return tao_fail(TAO_EFORMAT, "%s names filter or audit libraries, which the Tao "
		                "host does not measure: link it without them", im->name);
	if (tag == DT_NEEDED && d->needed_n == NEEDED_MAX)
		return tao_fail(TAO_ELIMIT, "%s needs more than %d libraries", im->name,
		                NEEDED_MAX);
	if (tag == DT_NEEDED)
		d->needed[d->needed_n++] = value;
	else
		keep_entry(d, tag, value);
	return TAO_OK;
}

static enum tao_err read_dynamic(const struct image *im, struct dynamic *d)
{
	uint64_t offset, left;
	size_t seen = 0;

	if (!locate(im, im->dynamic.vaddr, &offset, &left))
		return damaged(im, "its dynamic section is not loaded");
	while (seen < DYN_MAX) {
		uint8_t raw[DYN_CHUNK * DYN_LEN] = { 0 };
		size_t n = left / DYN_LEN < DYN_CHUNK ? (size_t)(left / DYN_LEN) : DYN_CHUNK;
		struct tao_rd r = tao_rd_of(raw, n * DYN_LEN);
		enum tao_err e = read_all(im, offset, raw, n * DYN_LEN);

		if (e == TAO_OK && n == 0)
			e = damaged(im, "its dynamic section has no end");
		for (size_t i = 0; e == TAO_OK && i < n; i++) {
			uint64_t tag = le64(&r);

			if (tag == DT_NULL)
				return TAO_OK;
			e = check_entry(im, d, tag, le64(&r));
		}
		if (e != TAO_OK)
			return e;
		offset += n * DYN_LEN;
		left -= n * DYN_LEN;
		seen += n;
	}
	return tao_fail(TAO_ELIMIT, "%s has more than %d dynamic entries", im->name, DYN_MAX);
}

/* A NUL-terminated string of at most max bytes at offset. */
static enum tao_err read_string(const struct image *im, uint64_t offset, uint64_t max, char **out)
{
	char raw[NAME_LEN_MAX];
	size_t got, want = max < sizeof raw ? (size_t)max : sizeof raw;
	enum tao_err e = read_some(im, offset, raw, want, &got);

	*out = NULL;
	if (e != TAO_OK)
		return e;
	if (memchr(raw, 0, got) == NULL)
		return got == sizeof raw
		       ? tao_fail(TAO_ELIMIT, "%s holds a name of more than %d bytes", im->name,
		                  NAME_LEN_MAX - 1)
		       : damaged(im, "a name has no end");
	*out = strdup(raw);
	return *out != NULL ? TAO_OK : tao_fail_nomem();
}

/* The loader adds without looking at DT_STRSZ: it is the segment that bounds. */
static enum tao_err dyn_string(const struct image *im, const struct dynamic *d, uint64_t index,
                               char **out)
{
	uint64_t offset, left;

	if (index > UINT64_MAX - d->strtab || !locate(im, d->strtab + index, &offset, &left))
		return damaged(im, "a name lies outside of it");
	return read_string(im, offset, left, out);
}

static enum tao_err dyn_strings(const struct image *im, const struct dynamic *d,
                                struct elf_info *out)
{
	enum tao_err e = TAO_OK;

	out->nodeflib = d->nodeflib;
	if (d->needed_n > 0) {
		out->needed = calloc(d->needed_n, sizeof *out->needed);
		if (out->needed == NULL)
			return tao_fail_nomem();
	}
	while (e == TAO_OK && out->needed_n < d->needed_n) {
		e = dyn_string(im, d, d->needed[out->needed_n], &out->needed[out->needed_n]);
		out->needed_n += e == TAO_OK;
	}
	if (e == TAO_OK && d->has_soname)
		e = dyn_string(im, d, d->soname, &out->soname);
	if (e == TAO_OK && d->has_runpath)
		e = dyn_string(im, d, d->runpath, &out->runpath);
	else if (e == TAO_OK && d->has_rpath)
		e = dyn_string(im, d, d->rpath, &out->rpath);
	return e;
}

enum tao_err elf_read(int fd, const char *name, struct elf_info *out)
{
	struct image im = { .fd = fd, .name = name };
	struct dynamic d = { 0 };
	uint64_t phoff = 0;
	size_t phnum = 0;
	int foreign = 0;
	enum tao_err e;

	*out = (struct elf_info){ 0 };
	e = read_header(&im, &foreign, &phoff, &phnum);
	if (e == TAO_OK)
		e = read_segments(&im, phoff, phnum);
	if (e == TAO_OK && im.has_interp)
		e = read_string(&im, im.interp.offset, im.interp.filesz, &out->interp);
	if (e == TAO_OK && im.has_dynamic)
		e = read_dynamic(&im, &d);
	if (e == TAO_OK)
		e = dyn_strings(&im, &d, out);
	if (e != TAO_OK) {
		elf_info_clear(out);
		out->foreign = foreign;
	}
	return e;
}

void elf_info_clear(struct elf_info *e)
{
	for (size_t i = 0; i < e->needed_n; i++)
		free(e->needed[i]);
	free(e->needed);
	free(e->interp);
	free(e->soname);
	free(e->rpath);
	free(e->runpath);
	*e = (struct elf_info){ 0 };
}
