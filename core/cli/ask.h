/* ask.h - the few questions that a run asks a person, and never a script. */
#ifndef SQZ_CORE_CLI_ASK_H
#define SQZ_CORE_CLI_ASK_H
#include "cli/cli.h"
#include "config/config.h"

enum { ASK_MOST = 2 };

/* May anything be asked?  Only when stdin and stderr are a terminal and neither --yes nor --quiet
 * nor --json - was given. */
int ask_allowed(const cli *);
/* Asks for the key constraints that nobody set.  out: overrides for config_load, whose texts the
 * caller frees; Enter and the end of input accept the default, which needs no override.
 * SQZ_E_CANCELLED on Ctrl-C. */
sqz_status ask_constraints(const config *, config_override out[ASK_MOST], int *n, sqz_error *err);

/* An answer as the text of a value, malloc'd; NULL when it is none (err says what would be). */
char *ask_read_drop(const char *answer, sqz_error *err);
char *ask_read_size(const char *answer, sqz_error *err);
#endif
