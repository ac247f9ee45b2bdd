/* The ELF reader: real files, and hand-made ones that are wrong in one place each. */
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../host/elf.h"
#include "tap.h"

#define STR_AT 0x400
#define DYN_AT 0x800
#define IMAGE_LEN 0x1000
#define BASE 0x10000

#if defined(__x86_64__)
#define OWN EM_X86_64
#define OTHER EM_AARCH64
#else
#define OWN EM_AARCH64
#define OTHER EM_X86_64
#endif

struct image {
	uint8_t p[IMAGE_LEN];
	size_t phdrs, dyns, str;
};

static void phdr(struct image *im, uint32_t type, uint64_t offset, uint64_t size)
{
	Elf64_Phdr ph = { .p_type = type, .p_offset = offset, .p_vaddr = BASE + offset,
		          .p_filesz = size, .p_memsz = size };
	Elf64_Ehdr *eh = (Elf64_Ehdr *)im->p;

	memcpy(im->p + sizeof *eh + im->phdrs++ * sizeof ph, &ph, sizeof ph);
	eh->e_phnum = (uint16_t)im->phdrs;
}

static void dyn(struct image *im, int64_t tag, uint64_t value)
{
	Elf64_Dyn d = { .d_tag = tag, .d_un.d_val = value };

	memcpy(im->p + DYN_AT + im->dyns++ * sizeof d, &d, sizeof d);
}

static uint64_t str(struct image *im, const char *s)
{
	size_t at = im->str;

	memcpy(im->p + STR_AT + at, s, strlen(s) + 1);
	im->str += strlen(s) + 1;
	return at;
}

/* A library without needs; the DT_NULL is missing still, the rest of the image is zeros. */
static struct image *fresh(void)
{
	static struct image im;
	Elf64_Ehdr eh = { .e_type = ET_DYN, .e_machine = OWN, .e_version = 1,
		          .e_phoff = sizeof eh, .e_ehsize = sizeof eh,
		          .e_phentsize = sizeof(Elf64_Phdr) };

	memset(&im, 0, sizeof im);
	memcpy(eh.e_ident, ELFMAG, SELFMAG);
	eh.e_ident[EI_CLASS] = ELFCLASS64;
	eh.e_ident[EI_DATA] = ELFDATA2LSB;
	memcpy(im.p, &eh, sizeof eh);
	phdr(&im, PT_LOAD, 0, IMAGE_LEN);
	phdr(&im, PT_DYNAMIC, DYN_AT, 0x400);
	dyn(&im, DT_STRTAB, BASE + STR_AT);
	str(&im, "");
	return &im;
}

static enum tao_err read_n(const struct image *im, size_t n, struct elf_info *out)
{
	int fd = memfd_create("t_elf", MFD_CLOEXEC);
	enum tao_err e;

	if (write(fd, im->p, n) != (ssize_t)n)
		exit(99);
	e = elf_read(fd, "test.elf", out);
	close(fd);
	return e;
}

static void refused(const struct image *im, enum tao_err want, const char *what)
{
	struct elf_info i;

	ok_err(read_n(im, IMAGE_LEN, &i), want, "refuses %s", what);
	elf_info_clear(&i);
}

static void real_files(void)
{
	struct elf_info i;
	int fd = open("/proc/self/exe", O_RDONLY), libc = 0;

	ok_err(elf_read(fd, "self", &i), TAO_OK, "reads this program");
	ok(i.interp != NULL && strstr(i.interp, "/ld-linux") != NULL, "it has an interpreter");
	for (size_t n = 0; n < i.needed_n; n++)
		libc |= strcmp(i.needed[n], "libc.so.6") == 0;
	ok(libc, "it needs libc.so.6");
	elf_info_clear(&i);
	close(fd);
	fd = open("/etc/passwd", O_RDONLY);
	ok_err(elf_read(fd, "/etc/passwd", &i), TAO_EFORMAT, "a text file is no ELF file");
	ok(!i.foreign, "nor one of another machine");
	ok(strstr(tao_why(), "/etc/passwd") != NULL, "the sentence names it");
	close(fd);
}

static void good(void)
{
	struct image *im = fresh();
	struct elf_info i;

	dyn(im, DT_NEEDED, str(im, "libone.so"));
	dyn(im, DT_SONAME, str(im, "libtest.so.1"));
	dyn(im, DT_NEEDED, str(im, "libtwo.so"));
	dyn(im, DT_RPATH, str(im, "/r"));
	dyn(im, DT_FLAGS_1, DF_1_NODEFLIB);
	ok_err(read_n(im, IMAGE_LEN, &i), TAO_OK, "a hand-made library");
	ok(i.needed_n == 2 && strcmp(i.needed[0], "libone.so") == 0 &&
	   strcmp(i.needed[1], "libtwo.so") == 0, "DT_NEEDED in order");
	ok_str(i.soname, "libtest.so.1", "DT_SONAME");
	ok_str(i.rpath, "/r", "DT_RPATH");
	ok(i.runpath == NULL && i.interp == NULL, "no more than that");
	ok(i.nodeflib, "DF_1_NODEFLIB");
	elf_info_clear(&i);
	dyn(im, DT_RUNPATH, str(im, "/run"));
	ok_err(read_n(im, IMAGE_LEN, &i), TAO_OK, "with DT_RUNPATH too");
	ok_str(i.runpath, "/run", "DT_RUNPATH");
	ok(i.rpath == NULL, "which overrules DT_RPATH");
	elf_info_clear(&i);
}

/* The loader goes by addresses: an offset in the header that says otherwise means nothing. */
static void by_address(void)
{
	struct image *im = fresh();
	Elf64_Phdr *ph = (Elf64_Phdr *)(im->p + sizeof(Elf64_Ehdr));
	struct elf_info i;

	dyn(im, DT_NEEDED, str(im, "libone.so"));
	ph[1].p_offset = 0x900;
	ok_err(read_n(im, IMAGE_LEN, &i), TAO_OK, "PT_DYNAMIC with a false offset");
	ok(i.needed_n == 1, "is found by its address");
	elf_info_clear(&i);
}

static void truncated(void)
{
	struct image *im = fresh();
	struct elf_info i;
	int bad = 0;

	phdr(im, PT_INTERP, 0x700, 0x20);
	memcpy(im->p + 0x700, "/lib64/ld-linux-x86-64.so.2", 28);
	dyn(im, DT_NEEDED, str(im, "libone.so"));
	for (size_t n = 0; n < DYN_AT + 0x30; n++) {
		bad += read_n(im, n, &i) != TAO_EFORMAT;
		elf_info_clear(&i);
	}
	ok(bad == 0, "cut off anywhere: malformed (%d were not)", bad);
}

static void foreign(void)
{
	struct image *im = fresh();
	struct elf_info i;

	((Elf64_Ehdr *)im->p)->e_machine = OTHER;
	ok_err(read_n(im, IMAGE_LEN, &i), TAO_EFORMAT, "another machine's");
	ok(i.foreign, "is told apart");
	im = fresh();
	im->p[EI_CLASS] = ELFCLASS32;
	ok(read_n(im, IMAGE_LEN, &i) == TAO_EFORMAT && i.foreign, "so is a 32-bit file");
	im = fresh();
	im->p[EI_DATA] = ELFDATA2MSB;
	ok(read_n(im, IMAGE_LEN, &i) == TAO_EFORMAT && i.foreign, "and a big-endian one");
}

static void wrong(void)
{
	struct image *im = fresh();

	((Elf64_Ehdr *)im->p)->e_type = ET_REL;
	refused(im, TAO_EFORMAT, "an object file");
	im = fresh();
	((Elf64_Ehdr *)im->p)->e_phentsize = 32;
	refused(im, TAO_EFORMAT, "program headers of another size");
	im = fresh();
	((Elf64_Ehdr *)im->p)->e_phnum = 0xffff;
	refused(im, TAO_ELIMIT, "65535 program headers");
	im = fresh();
	((Elf64_Ehdr *)im->p)->e_phoff = UINT64_MAX - 8;
	refused(im, TAO_EFORMAT, "program headers beyond the end");
	im = fresh();
	phdr(im, PT_DYNAMIC, DYN_AT, 0x400);
	refused(im, TAO_EFORMAT, "two dynamic sections");
	im = fresh();
	phdr(im, PT_INTERP, 0x700, 4);
	memcpy(im->p + 0x700, "/lib64", 7);
	refused(im, TAO_EFORMAT, "an interpreter without an end");
	im = fresh();
	((Elf64_Phdr *)(im->p + sizeof(Elf64_Ehdr)))[1].p_vaddr = 5;
	refused(im, TAO_EFORMAT, "a dynamic section that is not loaded");
	im = fresh();
	dyn(im, DT_NEEDED, IMAGE_LEN);
	refused(im, TAO_EFORMAT, "a name outside of the file");
	im = fresh();
	dyn(im, DT_NEEDED, UINT64_MAX);
	refused(im, TAO_EFORMAT, "a name that wraps around");
	im = fresh();
	dyn(im, DT_NEEDED, DYN_AT + 0x700 - STR_AT);
	memset(im->p + DYN_AT + 0x700, 'x', 0x100);
	refused(im, TAO_EFORMAT, "a name without an end");
	im = fresh();
	while (im->dyns < 127)
		dyn(im, DT_DEBUG, 1);
	((Elf64_Phdr *)(im->p + sizeof(Elf64_Ehdr)))[0].p_filesz = DYN_AT + 127 * 16;
	refused(im, TAO_EFORMAT, "a dynamic section without an end");
	im = fresh();
	dyn(im, DT_AUDIT, str(im, "libaudit.so"));
	refused(im, TAO_EFORMAT, "audit libraries");
	im = fresh();
	dyn(im, DT_AUXILIARY, str(im, "libaux.so"));
	refused(im, TAO_EFORMAT, "filter libraries");
}

int main(void)
{
	real_files();
	good();
	by_address();
	truncated();
	foreign();
	wrong();
	return done();
}
