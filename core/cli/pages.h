/* pages.h - what is written from the option tables besides the help: shell completions and manual
 * pages.  The build installs both by asking the program. */
#ifndef SQZ_CORE_CLI_PAGES_H
#define SQZ_CORE_CLI_PAGES_H
#include "cli/cli.h"
#include <stdio.h>

/* The script for "bash", "zsh" or "fish"; NULL for another word.  malloc'd. */
char *completion_script(const char *shell);
/* The page of one command, or of the whole program (NULL), as troff.  malloc'd. */
char *man_page(const command *);
/* "sqz-plugin-list.1"; "sqz.1" for NULL.  malloc'd. */
char *man_file_name(const command *);

/* Options of a command, its own first, then the common ones. */
int command_options(const command *);
const cli_option *command_option(const command *, int i);
/* Does the value or argument name a file or folder? */
int names_a_path(const char *value);
#endif
