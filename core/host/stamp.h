/* stamp.h - which plugin ABI a file was built for, read from its bytes.
 *
 * The answer is needed before dlopen: constructors of a shared object run before any other check
 * could, so a file of the wrong ABI must be refused while it is still only a file. */
#ifndef SQZ_CORE_HOST_STAMP_H
#define SQZ_CORE_HOST_STAMP_H
#include "error/error.h"

typedef struct plugin_stamp {
    int major;
    int needs_minor; /* oldest host minor the plugin accepts */
} plugin_stamp;

/* Reads ELF section .sqz.abi ("sqz-abi MAJOR.MINOR").  ERR_PLUGIN with the reason when the file is
 * no shared object of this machine or carries no stamp. */
sqz_status stamp_read(const char *file, plugin_stamp *out, sqz_error *err);
/* Can this host load it?  ERR_PLUGIN naming both versions, the file and the remedy when not. */
sqz_status stamp_accept(const plugin_stamp *, const char *file, sqz_error *err);
#endif
