/* elf_file.h - what a shared object's dynamic section says, read with every offset checked. */
#ifndef SQZ_CORE_CHECK_ELF_FILE_H
#define SQZ_CORE_CHECK_ELF_FILE_H
#include "error/error.h"

typedef struct elf_symbol {
    const char *name;
    int defined, weak, unique;
} elf_symbol;

typedef struct elf_facts {
    char *data; /* the file; strings point into it */
    int64_t bytes;
    elf_symbol *symbols; /* global and weak ones of the dynamic table, hidden ones left out */
    int n_symbols;
    const char **needed; /* DT_NEEDED */
    int n_needed;
    int text_relocations;
} elf_facts;

sqz_status elf_read(const char *file, elf_facts *out, sqz_error *err);
void elf_free(elf_facts *);
#endif
