/* fuzz_report.c - the files of a run folder that a report is made from, as a stranger may have sent
 * them.  Behind a zero byte the input goes on with the next file.  What comes out must hold no
 * control characters and no tag that the page did not write itself. */
#include "fuzz.h"
#include "report/report.h"
#include <stdlib.h>
#include <string.h>

static void check_text(const char *text)
{
    if (!text) return;
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 && *c != '\n' && *c != '\t') abort();
    if (strstr(text, "<fuzz")) abort(); /* the dictionary's tag came through */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"run.json", "pareto.json", "metrics.json", "trials.jsonl",
                                        "environment.json"};
    static const char *folder;
    report_data d;
    sqz_error err;
    if (!folder) folder = fuzz_folder();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
        size_t n = zero ? (size_t)(zero - data) : size;
        fuzz_write(folder, names[i], n ? data : (const uint8_t *)"{}", n ? n : 2);
        data += n + (zero != NULL);
        size -= n + (zero != NULL);
    }
    if (report_load(folder, &d, &err) != SQZ_OK) return 0;
    char *html = report_html(&d), *markdown = report_markdown(&d);
    check_text(html);
    check_text(markdown);
    free(html);
    free(markdown);
    report_data_free(&d);
    return 0;
}
