/* format.c - the plugin's face: GPTQ checkpoints, read and written.
 * The layout is in gptq_file.h, the two directions in import.c and export.c. */
#include "gptq_file.h"
#include <string.h>

static const sqz_format gptq_format = {sizeof gptq_format, 0,           config_probe,
                                       gptq_check,         gptq_export, gptq_import_linear};

static const void *format_extension(const char *id)
{
    return strcmp(id, SQZ_FORMAT_1) == 0 ? &gptq_format : NULL;
}

static const char *const format_tags[] = {"checkpoint", "weight-only", "int", NULL};
static const sqz_agent format_agent = {sizeof(sqz_agent),
                                       100,
                                       "org.sqz.format.gptq",
                                       "format/1",
                                       "GPTQ checkpoint",
                                       "Hugging Face folders in GPTQ v1 layout, 2, 3, 4 and 8 bits",
                                       "1.0.0",
                                       "Apache-2.0",
                                       format_tags,
                                       NULL,
                                       NULL,
                                       NULL,
                                       format_extension};
static const sqz_plugin format_plugin = {
    sizeof(sqz_plugin), SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof(sqz_agent), 0, &format_agent};

const sqz_plugin *sqz_plugin_v1(void)
{
    return &format_plugin;
}
SQZ_PLUGIN_STAMP(0);
