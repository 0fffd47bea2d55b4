/* cmd_bench.c - sqz bench: the speed of a model on this machine, in a worker. */
#include "cli/shared.h"
#include "cli/terminal.h"
#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    {"prompt-tokens", CLI_INT, "P", NULL, 1, 1e9,
     "tokens of the prompt (default: 512, or what the context leaves)"},
    {"new-tokens", CLI_INT, "N", "128", 1, 1e9, "tokens generated after it"},
    {"batch", CLI_INT, "N", "1", 1, 1, "sequences at once; only 1 is built yet"},
    {"repeats", CLI_INT, "N", "5", 1, 1000, "measurements; median, least and largest are told"},
    COMPUTE_OPTION("auto"),
    MEMORY_OPTION,
};

static void say_row(const cli *c, const char *key, const char *unit, double factor)
{
    const cJSON *v = json_get(c->json, key);
    if (!v) return;
    cli_say(c, "%-28s %10.4g %s  (%.4g .. %.4g)\n", key, json_num(v, "median", 0) * factor, unit,
            json_num(v, "min", 0) * factor, json_num(v, "max", 0) * factor);
}

static void say(const cli *c)
{
    char a[32], b[32], rss[32];
    say_row(c, "ttft_seconds", "s", 1);
    say_row(c, "tpot_seconds", "s", 1);
    say_row(c, "prefill_tokens_per_second", "tokens/s", 1);
    say_row(c, "decode_tokens_per_second", "tokens/s", 1);
    format_size(json_int(c->json, "weight_bytes_read_per_token", 0), a);
    format_size((int64_t)json_num(c->json, "read_bandwidth_bytes_per_second", 0), b);
    format_size(json_int(c->json, "peak_rss_bytes", 0), rss);
    cli_say(c,
            "%s of weights per token; memory reads %s/s, of which decoding uses %.0f %%; peak "
            "memory %s\n",
            a, b, 100 * json_num(c->json, "bandwidth_fraction", 0), rss);
}

static sqz_status run(cli *c, sqz_error *err)
{
    cJSON *task = cJSON_CreateObject(), *item;
    one_step o = {.title = "bench",
                  .model = c->args[0],
                  .compute = cli_text(c, "compute"),
                  .tasks = cJSON_CreateArray()};
    one_step_result r;
    cJSON_AddItemToArray(o.tasks, task);
    cJSON_AddStringToObject(task, "task", "bench");
    if (cli_given(c, "prompt-tokens"))
        cJSON_AddNumberToObject(task, "prompt_tokens", (double)cli_int(c, "prompt-tokens"));
    cJSON_AddNumberToObject(task, "new_tokens", (double)cli_int(c, "new-tokens"));
    cJSON_AddNumberToObject(task, "repeats", (double)cli_int(c, "repeats"));
    sqz_status s = one_step_run(c, &o, &r, err);
    if (s) return s;
    task = cJSON_GetArrayItem(r.results, 0);
    cJSON_DeleteItemFromObjectCaseSensitive(task, "task");
    while ((item = task->child)) {
        cJSON_DetachItemViaPointer(task, item);
        char *key = path_format("%s", item->string);
        cJSON_AddItemToObject(c->json, key, item);
        free(key);
    }
    if (!json_get(c->json, "peak_rss_bytes"))
        cJSON_AddNumberToObject(c->json, "peak_rss_bytes", (double)r.peak_rss_bytes);
    say(c);
    one_step_free(&r);
    return SQZ_OK;
}

const command cmd_bench = {
    .name = "bench",
    .arguments = "MODEL",
    .min_args = 1,
    .max_args = 1,
    .summary = "time to first token, time per token, throughput, memory",
    .examples = "  sqz bench examples/tiny-arith/model\n"
                "  sqz bench out/q4 --prompt-tokens 256 --new-tokens 64 --repeats 9 --json -\n",
    OPTIONS(options),
    .run = run};
