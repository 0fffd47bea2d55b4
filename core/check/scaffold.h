/* scaffold.h - a new plugin project outside the tree, from the templates that come with the SDK. */
#ifndef SQZ_CORE_CHECK_SCAFFOLD_H
#define SQZ_CORE_CHECK_SCAFFOLD_H
#include "error/error.h"

/* "method|eval|..." as far as templates are installed, for messages; caller frees. */
char *scaffold_kinds(void);
/* Makes `folder` (which must not exist) with a plugin `name` (lower-case letters, digits, _) of a
 * kind and the id `id` (NULL = org.example.NAME).  *made: the file to edit, caller frees. */
sqz_status scaffold_make(const char *kind, const char *name, const char *id, const char *folder,
                         char **made, sqz_error *err);
#endif
