/* test_comfort.c - pages from the option tables, answers to questions, and what fits into memory
 * and disk; the terminal itself is tested by tests/e2e/terminal.py. */
#include "cli/ask.h"
#include "cli/pages.h"
#include "config/keys.h"
#include "coordinator/room.h"
#include "coordinator/state.h"
#include "io/disk.h"
#include "io/file.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- pages ----------------------------------------------------------------------------------- */

/* The part of a script that belongs to one command. */
static char *part(const char *text, const char *from, const char *to)
{
    const char *begin = strstr(text, from), *end = begin ? strstr(begin, to) : NULL;
    ck_assert_msg(begin != NULL, "no %s", from);
    return path_format("%.*s", end ? (int)(end - begin) : (int)strlen(begin), begin);
}

/* --batch-tokens as troff writes it: \-\-batch\-tokens */
static char *troff_name(const char *name)
{
    char *out = path_format("\\-\\-");
    for (; *name; name++) {
        char *more = path_format(*name == '-' ? "%s\\%c" : "%s%c", out, *name);
        free(out);
        out = more;
    }
    return out;
}

static void in_all(const command *k, const cli_option *o, int common, const char *bash,
                   const char *zsh, const char *fish)
{
    char *help = cli_help(k), *man = man_page(k), *name = troff_name(o->name);
    char *flag = path_format("--%s", o->name);
    char *zsh_form = path_format(o->type == CLI_FLAG ? "--%s[" : "--%s=[", o->name);
    char *fish_form = common ? path_format("complete -c sqz -l %s ", o->name)
                             : path_format("-n '__sqz_is \"%s\"' -l %s ", k->name, o->name);
    ck_assert_msg(strstr(help, flag) != NULL, "help of %s: %s", k->name, flag);
    ck_assert_msg(strstr(man, name) != NULL, "page of %s: %s", k->name, flag);
    ck_assert_msg(strstr(bash, flag) != NULL, "bash, %s: %s", k->name, flag);
    ck_assert_msg(strstr(zsh, zsh_form) != NULL, "zsh, %s: %s", k->name, flag);
    ck_assert_msg(strstr(fish, fish_form) != NULL, "fish, %s: %s", k->name, flag);
    free(help);
    free(man);
    free(name);
    free(flag);
    free(zsh_form);
    free(fish_form);
}

START_TEST(every_option_everywhere)
{
    char *bash = completion_script("bash"), *zsh = completion_script("zsh");
    char *fish = completion_script("fish"), *all = man_page(NULL);
    int n = 0;
    for (int i = 0; i < cli_n_commands; i++) {
        const command *k = cli_commands[i];
        if (k->hidden) continue;
        char *head = path_format("\n    '%s')", k->name);
        char *b = part(bash, head, "' ;;\n"), *z = part(zsh, head, " ;;\n");
        for (int o = 0; o < command_options(k); o++, n++)
            in_all(k, command_option(k, o), o >= k->n_options, b, z, fish);
        char *file = man_file_name(k);
        char *listed = path_format(".BR %.*s (1)", (int)strlen(file) - 2, file);
        ck_assert_msg(strstr(all, listed) != NULL, "sqz(1) does not list %s", file);
        free(listed);
        free(file);
        free(head);
        free(b);
        free(z);
    }
    ck_assert_int_gt(n, 200);
    ck_assert_ptr_null(completion_script("tcsh"));
    free(bash);
    free(zsh);
    free(fish);
    free(all);
}
END_TEST

/* Shells that are installed must at least accept what is written for them. */
START_TEST(scripts_parse)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    for (int i = 0; i < 3; i++) {
        char *has = path_format("command -v %s >/dev/null", shells[i]);
        char *check = path_format("%s -n /tmp/test_comfort.%d", shells[i], (int)getpid());
        char *file = path_format("/tmp/test_comfort.%d", (int)getpid());
        char *text = completion_script(shells[i]);
        ck_assert_int_eq(file_write(file, text, (int64_t)strlen(text), NULL), SQZ_OK);
        if (system(has) == 0)
            ck_assert_msg(system(check) == 0, "%s does not accept its script", shells[i]);
        else
            printf("skipped: %s is not installed\n", shells[i]);
        remove(file);
        free(has);
        free(check);
        free(file);
        free(text);
    }
}
END_TEST

START_TEST(every_key_in_the_schema)
{
    cJSON *schema = config_schema();
    char *text = json_text(schema, 0);
    for (int i = 0; i < config_n_keys; i++) {
        cJSON *help = cJSON_CreateString(config_keys[i].help);
        char *quoted = json_text(help, 0);
        ck_assert_msg(strstr(text, quoted) != NULL, "%s", config_keys[i].path);
        cJSON_Delete(help);
        free(quoted);
    }
    free(text);
    cJSON_Delete(schema);
}
END_TEST

/* ---- answers --------------------------------------------------------------------------------- */
START_TEST(answers)
{
    static const struct {
        const char *answer, *value; /* NULL = refused */
    } drops[] = {{"0.02", "0.02"}, {"2%", "0.02"},   {"2 %", "0.02"}, {"0", "0"},
                 {"2", NULL},      {"-1", NULL},     {"x", NULL},     {"nan", NULL},
                 {"inf", NULL},    {"0.1 0.2", NULL}},
      sizes[] = {{"8GB", "8000000000"}, {"1GiB", "1073741824"}, {"0", NULL}, {"lots", NULL}};
    for (size_t i = 0; i < sizeof drops / sizeof *drops; i++) {
        sqz_error err = {0};
        char *v = ask_read_drop(drops[i].answer, &err);
        ck_assert_msg(v ? drops[i].value && !strcmp(v, drops[i].value) : !drops[i].value, "%s: %s",
                      drops[i].answer, v ? v : "refused");
        ck_assert(v || err.text[0]);
        free(v);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        sqz_error err = {0};
        char *v = ask_read_size(sizes[i].answer, &err);
        ck_assert_msg(v ? sizes[i].value && !strcmp(v, sizes[i].value) : !sizes[i].value, "%s: %s",
                      sizes[i].answer, v ? v : "refused");
        free(v);
    }
}
END_TEST

/* ---- memory and disk ------------------------------------------------------------------------- */

/* A 7 B model of the Llama shape, as the inferred values name it. */
static model_config shape; /* filled by main */
static const char shape_json[] =
    "{\"model_type\":\"llama\",\"num_hidden_layers\":32,\"hidden_size\":4096,"
    "\"intermediate_size\":11008,\"num_attention_heads\":32,\"vocab_size\":32000,"
    "\"max_position_embeddings\":4096,\"torch_dtype\":\"bfloat16\"}";

static cJSON *spec_of(const char *rest)
{
    char *text = path_format("{\"parameters\":{\"value\":6738415616},\"block_parameters\":{"
                             "\"value\":6476005376},\"weight_bytes\":{\"value\":13476831232},"
                             "\"compute\":{\"value\":\"bf16\"}%s}",
                             rest);
    cJSON *spec = cJSON_Parse(text);
    ck_assert_ptr_nonnull(spec);
    free(text);
    return spec;
}

START_TEST(statistics_size)
{
    /* attn_in, attn_out, mlp_in: 4096 wide; mlp_mid: 11008 wide; triangles of float32, 32 blocks */
    double want = 32.0 * 4 * (3 * 4096.0 * 4097 / 2 + 11008.0 * 11009 / 2);
    ck_assert_double_eq((double)model_moment_bytes(&shape), want);
}
END_TEST

START_TEST(disk_sentences)
{
    ck_assert_ptr_null(disk_refusal("x", 1e9, "/d", 2000000000, "y"));
    ck_assert_ptr_null(disk_refusal("x", 1e9, "/d", -1, "y")); /* unknown */
    ck_assert_ptr_null(disk_refusal("x", 0, "/d", 0, "y"));    /* nothing is written */
    char *s = disk_refusal("the thing", 5.1e9, "/d", 3000000000, "free some");
    ck_assert_str_eq(s, "the thing needs about 5.1 GB in /d, 3.0 GB are free; free some");
    free(s);
    s = disk_refusal("the thing", 1e9, "/d", 1000000001,
                     "free some"); /* the journal must fit, too */
    ck_assert_ptr_nonnull(s);
    free(s);
    ck_assert_int_gt(disk_free("/tmp"), 0);
    ck_assert_int_gt(disk_free("/tmp/absent/and/deeper"), 0);
    ck_assert_int_gt(disk_free("relative/absent"), 0);
}
END_TEST

START_TEST(steps_that_do_not_fit)
{
    cJSON *spec = spec_of(""), *steps = cJSON_Parse("[{\"use\":\"m\",\"with\":{\"bits\":4,"
                                                    "\"group_size\":128}}]");
    config c = {0};
    room_need proxy = room_predict(&shape, spec, &c, steps, "proxy");
    room_need whole = room_predict(&shape, spec, &c, steps, "export");
    room_need none = room_predict(&shape, spec, &c, steps, "full");
    /* 4.16 bits a weight of the blocks; the checkpoint has the rest in 16 bits besides */
    ck_assert_double_eq_tol(proxy.store, 6476005376.0 * 4.16 / 8, 0.03 * 3.4e9);
    ck_assert_double_eq_tol(whole.run - proxy.store, 2.0 * (6738415616.0 - 6476005376.0), 1e6);
    ck_assert(proxy.run == 0 && whole.store == 0 && none.store == 0 && none.run == 0);
    room now = {.store_bytes = 100000000000, .run_bytes = 100000000000};
    ck_assert_ptr_null(room_refusal(spec, &proxy, "/store", "/run", &now));
    now.store_bytes = 2600000000;
    char *s = room_refusal(spec, &proxy, "/store", "/run", &now);
    ck_assert_msg(s && strstr(s, "in /store, 2.6 GB are free") && strstr(s, "codes of 3 bits") &&
                      strstr(s, "sqz registry gc") && strstr(s, "--resume /run"),
                  "%s", s ? s : "fits");
    free(s);
    now.run_bytes = 3000000000;
    s = room_refusal(spec, &whole, "/store", "/run", &now);
    ck_assert_msg(s && strstr(s, "the exported checkpoint") && strstr(s, "in /run"), "%s",
                  s ? s : "fits");
    free(s);
    cJSON_Delete(steps);
    cJSON_Delete(spec);
}
END_TEST

START_TEST(what_would_fit)
{
    /* 1024 windows of 2048 tokens: 34 GB of hidden states, everything else about 16 GB */
    cJSON *spec = spec_of(",\"calibration_samples\":{\"value\":1024},\"calibration_seq_len\":{"
                          "\"value\":2048},\"memory_limit\":{\"value\":2e10}");
    config c = {0};
    cJSON *steps = cJSON_CreateArray();
    prediction p = predict_trial(&shape, spec, &c, steps);
    char *s = plan_refusal(&shape, spec, &p);
    ck_assert_ptr_nonnull(s);
    const char *advice = strstr(s, "calibration.samples=");
    ck_assert_msg(advice != NULL, "%s", s);
    int samples = atoi(advice + strlen("calibration.samples="));
    free(s);
    /* what is advised fits, and one window more does not */
    for (int more = 0; more < 2; more++) {
        char *rest = path_format(",\"calibration_samples\":{\"value\":%d},\"calibration_seq_len\":{"
                                 "\"value\":2048},\"memory_limit\":{\"value\":2e10}",
                                 samples + more);
        cJSON *other = spec_of(rest);
        p = predict_trial(&shape, other, &c, steps);
        s = plan_refusal(&shape, other, &p);
        ck_assert_msg((s != NULL) == more, "%d samples: %s", samples + more, s ? s : "fits");
        free(s);
        cJSON_Delete(other);
        free(rest);
    }
    cJSON_Delete(steps);
    cJSON_Delete(spec);
}
END_TEST

START_TEST(narrower_products_fit)
{
    cJSON *spec = spec_of(",\"calibration_samples\":{\"value\":16},\"calibration_seq_len\":{"
                          "\"value\":512},\"memory_limit\":{\"value\":2e10}");
    cJSON_Delete(cJSON_DetachItemFromObject(spec, "compute"));
    prediction p = {1, 3e10, 1};
    char *s = plan_refusal(&shape, spec, &p);
    ck_assert_msg(s && strstr(s, "hardware.compute=bf16 would fit"), "%s", s ? s : "fits");
    free(s);
    cJSON_Delete(spec);
}
END_TEST

START_TEST(the_watch_tells_once)
{
    cJSON *spec = spec_of("");
    room_monitor m = {0};
    room now = {16000000000, 32000000000, 90000000000, 80000000000};
    ck_assert_ptr_null(room_watch(&m, spec, "/store", "/run", &now));
    now.memory_bytes = 900000000; /* below 1 GB */
    char *s = room_watch(&m, spec, "/store", "/run", &now);
    ck_assert_msg(s && strstr(s, "900 MB of memory") && !strstr(s, "/store"), "%s", s ? s : "");
    free(s);
    ck_assert_ptr_null(room_watch(&m, spec, "/store", "/run", &now)); /* told */
    now.memory_bytes = 1200000000;                                    /* not over yet */
    ck_assert_ptr_null(room_watch(&m, spec, "/store", "/run", &now));
    now.memory_bytes = 900000000;
    ck_assert_ptr_null(room_watch(&m, spec, "/store", "/run", &now));
    now.memory_bytes = 2000000000; /* over */
    ck_assert_ptr_null(room_watch(&m, spec, "/store", "/run", &now));
    now.memory_bytes = 900000000;
    now.store_bytes = now.run_bytes = 1500000000; /* one disk: told once */
    s = room_watch(&m, spec, "/store", "/run", &now);
    ck_assert_msg(s && strstr(s, "memory") && strstr(s, "only 1.5 GB are free in the registry /store") &&
                      !strstr(s, "/run"),
                  "%s", s ? s : "");
    free(s);
    now = (room){-1, -1, -1, -1}; /* unknown is no shortage */
    m = (room_monitor){0};
    ck_assert_ptr_null(room_watch(&m, spec, "/store", "/run", &now));
    cJSON_Delete(spec);
}
END_TEST

int main(void)
{
    if (model_config_parse(shape_json, "shape", &shape, NULL)) return 1;
    Suite *s = suite_create("comfort");
    TCase *t = tcase_create("comfort");
    tcase_add_test(t, every_option_everywhere);
    tcase_add_test(t, scripts_parse);
    tcase_add_test(t, every_key_in_the_schema);
    tcase_add_test(t, answers);
    tcase_add_test(t, statistics_size);
    tcase_add_test(t, disk_sentences);
    tcase_add_test(t, steps_that_do_not_fit);
    tcase_add_test(t, what_would_fit);
    tcase_add_test(t, narrower_products_fit);
    tcase_add_test(t, the_watch_tells_once);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
