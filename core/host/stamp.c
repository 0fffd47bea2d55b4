/* stamp.c - see stamp.h.
 *
 * Files are read with pread and every offset is checked against the file's size: a truncated or
 * hostile file costs a message.  A mapping would not do, as a file cut short under it raises
 * SIGBUS. */
#include "host/stamp.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char SECTION[] = ".sqz.abi";
enum { MAX_STAMP = 64 };

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#elif defined(__riscv)
#define OWN_MACHINE EM_RISCV
#elif defined(__powerpc64__)
#define OWN_MACHINE EM_PPC64
#elif defined(__s390x__)
#define OWN_MACHINE EM_S390
#else
#error "name this machine's ELF number here"
#endif

typedef struct elf_file {
    int fd;
    uint64_t bytes;
    const char *name;
} elf_file;

static int read_at(const elf_file *f, uint64_t offset, void *to, uint64_t bytes)
{
    uint64_t end;
    if (__builtin_add_overflow(offset, bytes, &end) || end > f->bytes) return 0;
    for (uint64_t have = 0; have < bytes;) {
        ssize_t n = pread(f->fd, (char *)to + have, bytes - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        have += (uint64_t)n;
    }
    return 1;
}

static sqz_status check_header(const elf_file *f, const Elf64_Ehdr *h, sqz_error *err)
{
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
        return err_set(err, ERR_PLUGIN, "%s: is no shared object (no ELF header)", f->name);
    int data = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != data ||
        h->e_machine != OWN_MACHINE)
        return err_set(err, ERR_PLUGIN,
                       "%s: is built for another processor (ELF machine %d, this program runs on "
                       "%d); build the plugin on this kind of machine",
                       f->name, h->e_machine, OWN_MACHINE);
    if (h->e_type != ET_DYN)
        return err_set(err, ERR_PLUGIN, "%s: is no shared object (ELF type %d); link with -shared",
                       f->name, h->e_type);
    if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shoff == 0 || h->e_shstrndx >= h->e_shnum)
        return err_set(err, ERR_PLUGIN,
                       "%s: has no readable section table; do not strip it with --strip-section-"
                       "headers",
                       f->name);
    return SQZ_OK;
}

/* The section's bytes into text, zero-terminated. */
static sqz_status find_section(const elf_file *f, const Elf64_Ehdr *h, char text[MAX_STAMP + 1],
                               sqz_error *err)
{
    Elf64_Shdr names, section;
    uint64_t stride = sizeof section;
    if (!read_at(f, h->e_shoff + stride * h->e_shstrndx, &names, sizeof names))
        return err_set(err, ERR_PLUGIN, "%s: is cut short (section table beyond the end)", f->name);
    for (uint64_t i = 0; i < h->e_shnum; i++) {
        char name[sizeof SECTION];
        uint64_t offset, at;
        if (__builtin_add_overflow(h->e_shoff, stride * i, &offset) ||
            !read_at(f, offset, &section, sizeof section))
            return err_set(err, ERR_PLUGIN, "%s: is cut short (section %d beyond the end)", f->name,
                           (int)i);
        if (__builtin_add_overflow(names.sh_offset, (uint64_t)section.sh_name, &at) ||
            !read_at(f, at, name, sizeof name) || memcmp(name, SECTION, sizeof name) != 0)
            continue;
        uint64_t n = section.sh_size < MAX_STAMP ? section.sh_size : MAX_STAMP;
        if (section.sh_type == SHT_NOBITS || !read_at(f, section.sh_offset, text, n))
            return err_set(err, ERR_PLUGIN, "%s: its %s section lies beyond the file's end",
                           f->name, SECTION);
        text[n] = 0;
        return SQZ_OK;
    }
    return err_set(err, ERR_PLUGIN,
                   "%s: carries no %s stamp, so it is not opened; put SQZ_PLUGIN_STAMP(0); into "
                   "one of its source files",
                   f->name, SECTION);
}

/* "1.0" and nothing behind it. */
static int parse_versions(const char *text, plugin_stamp *out)
{
    char *end;
    if (*text < '0' || *text > '9') return 0;
    long major = strtol(text, &end, 10);
    if (*end != '.' || end[1] < '0' || end[1] > '9') return 0;
    long minor = strtol(end + 1, &end, 10);
    if (*end || major > 9999 || minor > 9999) return 0;
    *out = (plugin_stamp){(int)major, (int)minor};
    return 1;
}

static sqz_status read_open(const elf_file *f, plugin_stamp *out, sqz_error *err)
{
    static const char PREFIX[] = "sqz-abi ";
    Elf64_Ehdr header;
    char text[MAX_STAMP + 1] = "";
    if (!read_at(f, 0, &header, sizeof header))
        return err_set(err, ERR_PLUGIN, "%s: is no shared object (only %llu bytes)", f->name,
                       (unsigned long long)f->bytes);
    sqz_status status = check_header(f, &header, err);
    if (!status) status = find_section(f, &header, text, err);
    if (status) return status;
    if (strncmp(text, PREFIX, sizeof PREFIX - 1) != 0 ||
        !parse_versions(text + sizeof PREFIX - 1, out)) {
        for (char *c = text; *c; c++)
            if (*c < ' ' || *c > '~') *c = '?';
        return err_set(err, ERR_PLUGIN,
                       "%s: its stamp reads \"%s\", expected \"sqz-abi MAJOR.MINOR\"", f->name,
                       text);
    }
    return SQZ_OK;
}

sqz_status stamp_read(const char *file, plugin_stamp *out, sqz_error *err)
{
    struct stat st;
    elf_file f = {.fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK), .name = file};
    if (f.fd < 0) return err_set(err, ERR_PLUGIN, "%s: %s", file, strerror(errno));
    sqz_status status;
    if (fstat(f.fd, &st) != 0 || !S_ISREG(st.st_mode))
        status = err_set(err, ERR_PLUGIN, "%s: is no regular file", file);
    else {
        f.bytes = (uint64_t)st.st_size;
        status = read_open(&f, out, err);
    }
    close(f.fd);
    return status;
}

sqz_status stamp_accept(const plugin_stamp *stamp, const char *file, sqz_error *err)
{
    if (stamp->major != SQZ_ABI_MAJOR)
        return err_set(
            err, ERR_PLUGIN,
            "%s: is built for plugin ABI %d, sqz %s speaks ABI %d (up to %d.%d); install "
            "a build of the plugin for ABI %d%s",
            file, stamp->major, SQZ_VERSION, SQZ_ABI_MAJOR, SQZ_ABI_MAJOR, SQZ_ABI_MINOR,
            SQZ_ABI_MAJOR, stamp->major > SQZ_ABI_MAJOR ? ", or a newer sqz" : "");
    if (stamp->needs_minor > SQZ_ABI_MINOR)
        return err_set(err, ERR_PLUGIN,
                       "%s: needs plugin ABI %d.%d, sqz %s speaks %d.%d; install a newer sqz, or a "
                       "build of the plugin that needs no more than %d.%d",
                       file, stamp->major, stamp->needs_minor, SQZ_VERSION, SQZ_ABI_MAJOR,
                       SQZ_ABI_MINOR, SQZ_ABI_MAJOR, SQZ_ABI_MINOR);
    return SQZ_OK;
}
