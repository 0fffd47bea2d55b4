/* elf_file.c - see elf_file.h.  Only what the checks ask: 64-bit files of this machine's byte
 * order, by their section table (stamp.c has refused files without one). */
#include "check/elf_file.h"
#include "io/file.h"
#include <elf.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PLUGIN = 1 << 30 };

/* The bytes [offset, offset + n) of the file, or NULL. */
static const void *part(const elf_facts *f, uint64_t offset, uint64_t n)
{
    uint64_t end;
    if (__builtin_add_overflow(offset, n, &end) || end > (uint64_t)f->bytes) return NULL;
    return f->data + offset;
}

/* A string of table `s`, which must end inside it. */
static const char *string_at(const elf_facts *f, const Elf64_Shdr *s, uint64_t at)
{
    const char *table = part(f, s->sh_offset, s->sh_size);
    if (!table || at >= s->sh_size || !memchr(table + at, 0, s->sh_size - at)) return NULL;
    return table + at;
}

static int section_at(const elf_facts *f, const Elf64_Ehdr *h, uint64_t i, Elf64_Shdr *out)
{
    const void *at = i < h->e_shnum ? part(f, h->e_shoff + i * sizeof *out, sizeof *out) : NULL;
    if (at) memcpy(out, at, sizeof *out);
    return at != NULL;
}

static int read_symbols(elf_facts *f, const Elf64_Shdr *s, const Elf64_Shdr *names)
{
    uint64_t n = s->sh_size / sizeof(Elf64_Sym);
    const char *at = part(f, s->sh_offset, n * sizeof(Elf64_Sym));
    if (!at) return 0;
    f->symbols = calloc(n + 1, sizeof *f->symbols);
    if (!f->symbols) return 0;
    for (uint64_t i = 1; i < n; i++) {
        Elf64_Sym y;
        memcpy(&y, at + i * sizeof y, sizeof y);
        int bind = ELF64_ST_BIND(y.st_info), seen = ELF64_ST_VISIBILITY(y.st_other);
        const char *name = string_at(f, names, y.st_name);
        if (!name || bind == STB_LOCAL || seen == STV_HIDDEN || seen == STV_INTERNAL) continue;
        if (ELF64_ST_TYPE(y.st_info) == STT_FILE || ELF64_ST_TYPE(y.st_info) == STT_SECTION)
            continue;
        f->symbols[f->n_symbols++] =
            (elf_symbol){name, y.st_shndx != SHN_UNDEF, bind == STB_WEAK, bind == STB_GNU_UNIQUE};
    }
    return 1;
}

static int read_dynamic(elf_facts *f, const Elf64_Shdr *s, const Elf64_Shdr *names)
{
    uint64_t n = s->sh_size / sizeof(Elf64_Dyn);
    const char *at = part(f, s->sh_offset, n * sizeof(Elf64_Dyn));
    if (!at) return 0;
    f->needed = calloc(n + 1, sizeof *f->needed);
    if (!f->needed) return 0;
    for (uint64_t i = 0; i < n; i++) {
        Elf64_Dyn d;
        memcpy(&d, at + i * sizeof d, sizeof d);
        if (d.d_tag == DT_NULL) break;
        if (d.d_tag == DT_TEXTREL || (d.d_tag == DT_FLAGS && (d.d_un.d_val & DF_TEXTREL)))
            f->text_relocations = 1;
        const char *name = d.d_tag == DT_NEEDED ? string_at(f, names, d.d_un.d_val) : NULL;
        if (name) f->needed[f->n_needed++] = name;
    }
    return 1;
}

static int read_sections(elf_facts *f)
{
    const void *at = part(f, 0, sizeof(Elf64_Ehdr));
    Elf64_Ehdr h;
    Elf64_Shdr s, names;
    if (!at) return 0;
    memcpy(&h, at, sizeof h);
    if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_shentsize != sizeof s) return 0;
    for (uint64_t i = 0; i < h.e_shnum; i++) {
        if (!section_at(f, &h, i, &s)) return 0;
        if (s.sh_type != SHT_DYNSYM && s.sh_type != SHT_DYNAMIC) continue;
        if (!section_at(f, &h, s.sh_link, &names)) return 0;
        if (s.sh_type == SHT_DYNSYM && !f->symbols && !read_symbols(f, &s, &names)) return 0;
        if (s.sh_type == SHT_DYNAMIC && !f->needed && !read_dynamic(f, &s, &names)) return 0;
    }
    return f->symbols && f->needed;
}

sqz_status elf_read(const char *file, elf_facts *out, sqz_error *err)
{
    *out = (elf_facts){0};
    sqz_status s = file_read(file, MAX_PLUGIN, &out->data, &out->bytes, err);
    if (s) return s;
    if (read_sections(out)) return SQZ_OK;
    elf_free(out);
    return err_set(err, ERR_PLUGIN, "%s: its dynamic symbol table cannot be read", file);
}

void elf_free(elf_facts *f)
{
    free(f->symbols);
    free(f->needed);
    free(f->data);
    *f = (elf_facts){0};
}
