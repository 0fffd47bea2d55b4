/* test_cli.c - the command line as a script sees it: exit code, words on stdout and stderr, JSON
 * keys.
 *
 * Spawns the built program; option parsing, sizes and durations are also tested directly. */
#include "checkpoint/safetensors.h"
#include "cli/cli.h"
#include "io/file.h"
#include "json/json.h"
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
#define SQZ SQZ_BUILD_DIR "/bin/sqz"
#define MODEL SQZ_SOURCE_DIR "/examples/tiny-arith/model"
#define DATA SQZ_SOURCE_DIR "/examples/tiny-arith/data"

typedef struct ran {
    int code;
    char *out, *err;
} ran;

static char folder[] = "/tmp/test_cli_XXXXXX";

static char *slurp(const char *path)
{
    char *text;
    int64_t bytes;
    ck_assert_int_eq(file_read(path, 64 << 20, &text, &bytes, NULL), SQZ_OK);
    return text;
}

/* `line` goes through /bin/sh with $SQZ, $MODEL, $DATA and $T (a temporary folder) set. */
static ran sh(const char *line)
{
    char *out = path_format("%s/out", folder), *err = path_format("%s/err", folder);
    char *command = path_format("( %s ) >%s 2>%s </dev/null", line, out, err);
    int status = system(command);
    ran r = {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(out), slurp(err)};
    free(command);
    free(out);
    free(err);
    return r;
}

static void drop(ran *r)
{
    free(r->out);
    free(r->err);
}

static const struct {
    const char *line;
    int code;
    const char *out, *err; /* words that must be there; NULL = that stream is empty */
} table[] = {
    {"$SQZ --version", 0, "sqz 0.", NULL},
    {"$SQZ version --json -", 0, "\"abi_major\"", NULL},
    {"$SQZ help", 0, "Commands:", NULL},
    {"$SQZ", 2, "Usage:", NULL},
    {"$SQZ help eval", 0, "--dataset FILE", NULL},
    {"$SQZ help registry", 0, "sqz registry gc", NULL},
    {"$SQZ help nothing", 2, NULL, "no command"},
    {"$SQZ quantize --help", 0, "Examples:", NULL},
    {"$SQZ evla x", 2, NULL, "did you mean eval?"},
    {"$SQZ plugin", 2, NULL, "list|info"},
    {"$SQZ registry frob", 2, NULL, "ls|show|tag|verify|gc"},
    {"$SQZ eval m --datset f", 2, NULL, "did you mean --dataset?"},
    {"$SQZ eval", 2, NULL, "usage: sqz eval MODEL"},
    {"$SQZ eval a b --dataset f", 2, NULL, "one argument too many"},
    {"$SQZ eval m -x", 2, NULL, "unknown option -x"},
    {"$SQZ eval m --dataset", 2, NULL, "--dataset needs a value"},
    {"$SQZ eval m --dataset --limit 3", 2, NULL, "--dataset needs a value"},
    {"$SQZ eval m --limit many --dataset f", 2, NULL, "wants a whole number"},
    {"$SQZ eval m --quiet=1 --dataset f", 2, NULL, "takes no value"},
    {"$SQZ eval m --compute int8 --dataset f", 2, NULL, "auto|fp32|bf16"},
    {"$SQZ generate m --top-p 2 --prompt x", 2, NULL, "outside"},
    /* not built yet, by name */
    {"$SQZ scan m", 2, NULL, "sqz scan is not built yet"},
    {"$SQZ prune m", 2, NULL, "sqz prune is not built yet"},
    {"$SQZ distill m", 2, NULL, "sqz distill is not built yet"},
    {"$SQZ finetune m", 2, NULL, "sqz finetune is not built yet"},
    {"$SQZ validate m", 2, NULL, "usage: sqz validate BASE MODEL"},
    {"$SQZ validate m n --dataset d --skip speedups", 2, NULL, "did you mean speedup?"},
    {"$SQZ validate m n --dataset d --preset none", 2, NULL, "there is no such preset"},
    {"echo '{\"criteria\":{\"loop\":{\"most\":0}}}' >$T/p.json; $SQZ validate m n --dataset d "
     "--preset $T/p.json",
     2, NULL, "did you mean loops?"},
    {"echo '{\"criteria\":{\"loops\":{\"max\":0}}}' >$T/p.json; $SQZ validate m n --dataset d "
     "--preset $T/p.json",
     2, NULL, "a limit is \"most\" or \"least\""},
    {"$SQZ eval m --dataset d --against b --alpha 2", 2, NULL, "outside"},
    {"$SQZ compare $MODEL", 2, NULL, ""},
    {"$SQZ compare $MODEL $MODEL --dataset $DATA/arith_test.jsonl --limit 3 --generations 0 "
     "--kl-tokens 256 --output $T/c.md",
     0, "No difference was seen", NULL},
    {"cp -r $MODEL \"$T/<i>\" && $SQZ compare $MODEL \"$T/<i>\" --dataset $DATA/arith_test.jsonl "
     "--limit 3 --generations 0 --kl-tokens 0 --quiet --output $T/c.html >$T/log && ! grep -q "
     "'<i>' "
     "$T/c.html && grep -c '/&lt;i&gt; against' $T/c.html",
     0, "1", NULL},
    {"$SQZ export m", 2, NULL, "sqz export is not built yet"},
    {"$SQZ profile list", 2, NULL, "sqz profile is not built yet"},
    /* comfort */
    {"$SQZ doctor --only clock", 0, "monotonic", NULL},
    {"$SQZ doctor --only plugns", 2, NULL, "did you mean plugins?"},
    {"$SQZ doctor --only backend --json - --registry $T/reg", 0, "\"instructions\"", NULL},
    {"$SQZ doctor --only disk --registry /proc/none", 7, "fail  registry", NULL},
    {"$SQZ explain budget.trials", 0, "32 when neither", NULL},
    {"$SQZ explain budgte.trials", 2, NULL, "did you mean \"budget.trials\"?"},
    {"$SQZ explain samples", 2, NULL, "did you mean \"calibration.samples\"?"},
    {"$SQZ explain seed --set seed=7", 0, "= 7  (--set)", NULL},
    {"$SQZ explain constraints.max_accuracy_drop --model $MODEL --dataset $DATA/test.jsonl", 0,
     "would use 0.02", NULL},
    {"$SQZ plugin why rtn", 0, "used  org.sqz.rtn", NULL},
    {"$SQZ plugin why gtpq", 2, "searched, in this order", "did you mean"},
    {"echo '{\"plugins\":{\"deny\":[\"rtn\"]}}' >$T/deny.json; $SQZ plugin why rtn --config "
     "$T/deny.json",
     0, "plugins.deny names \"rtn\"", NULL},
    {"mkdir -p $T/sh; cp $PLUGINS/method_rtn.so $T/sh; $SQZ plugin why rtn --plugin-path $T/sh", 0,
     "shadowed  org.sqz.rtn", NULL},
    {"mkdir -p $T/bad; echo x >$T/bad/broken.so; $SQZ plugin why broken --plugin-path $T/bad", 0,
     "unusable", NULL},
    {"$SQZ plugin why $T/bad/broken.so", 0, "broken.so", NULL},
    {"$SQZ top $T/none", 3, NULL, "no such run folder"},
    {"$SQZ completions tcsh", 2, NULL, "bash, zsh or fish"},
    {"$SQZ man plugin list", 0, ".SH OPTIONS", NULL},
    {"$SQZ man nothing", 2, NULL, "no command"},
    {"$SQZ generate $MODEL --chat --prompt x", 2, NULL, "has no chat template"},
    {"$SQZ --model $MODEL --dataset $DATA/test.jsonl --target phone", 2, NULL,
     "--target is not built"},
    /* models that are none */
    {"$SQZ estimate nowhere-7b", 3, NULL, "no known model"},
    {"SQZ_OFFLINE=1 $SQZ generate org/model-7b --prompt x", 3, NULL, "not (whole) in the cache"},
    {"touch $T/m.gguf; $SQZ bench $T/m.gguf", 3, NULL, "GGUF"},
    {"$SQZ eval $T/absent --dataset $DATA/test.jsonl", 3, NULL, "no such folder"},
    {"mkdir -p $T/empty; $SQZ generate $T/empty --prompt x", 3, NULL, "config.json"},
    {"$SQZ eval sha256:0123456789 --dataset $DATA/test.jsonl", 3, NULL, "sha256:"},
    {"$SQZ tokenize $T/absent --text x", 3, NULL, "no such folder"},
    /* tokenize */
    {"$SQZ tokenize $MODEL", 2, NULL, "exactly one of"},
    {"$SQZ tokenize $MODEL --text 'Question: 2 + 3'", 0, "[295, 27, 222, 19, 347, 222, 20]\n",
     NULL},
    {"$SQZ tokenize $MODEL --text=-5", 0, "[", NULL},
    {"printf 'a\\nb\\n' | $SQZ tokenize $MODEL --lines - | wc -l", 0, "2", NULL},
    {"$SQZ tokenize $MODEL --decode --text '[295, 27, 222, 19]'", 0, "Question: 2", NULL},
    {"$SQZ tokenize $MODEL --decode --text '[999999]'", 2, NULL, "no id of this tokenizer"},
    {"$SQZ tokenize $MODEL --decode --text 'nonsense'", 2, NULL, "JSON array"},
    {"$SQZ tokenize $MODEL --file $T/none", 3, NULL, "none"},
    /* estimate, plugin, schema */
    {"$SQZ estimate $MODEL", 0, "parameters", NULL},
    {"$SQZ estimate $MODEL --max-vram 1MB", 0, "does not fit", NULL},
    {"$SQZ estimate qwen2.5-7b --kv fp16 --device gpu", 0, "Qwen/Qwen2.5-7B", NULL},
    {"$SQZ estimate Qwen/Qwen3-30B-A3B", 0, ": 30532 M parameters", NULL},
    {"$SQZ estimate qwen2.5-7c", 3, NULL, "nearest: Qwen2.5-7B"},
    {"$SQZ estimate $MODEL --max-vram lots", 2, NULL, "is no size"},
    {"$SQZ plugin info definitely-not", 2, NULL, "there is no plugin"},
    {"$SQZ plugin list --kind hardware", 0, "hardware/1", NULL},
    {"$SQZ plugin list --kind hardwear", 2, NULL, "no plugin of the kind"},
    {"$SQZ plugin --help", 0, "sqz plugin check", NULL},
    {"$SQZ registry -h", 0, "Examples:", NULL},
    {"$SQZ logits $MODEL --input-ids $T/none --output $T/x", 3, NULL, "no such file"},
    {"$SQZ plan --model $MODEL --dataset $T/none.jsonl", 3, NULL, "no such file or folder"},
    {"$SQZ plan --model gpt2 --dataset mystery", 0, "the model's name", NULL},
    {"$SQZ eval $MODEL --limit 2 --json - --dataset $DATA/facts_test.jsonl,$DATA/arith_test.jsonl",
     0, "\"items\": \"", NULL},
    {"cp $DATA/facts_test.jsonl $T/a,b.jsonl; cd $T; $SQZ eval $MODEL --limit 1 --json - --dataset "
     "a,b.jsonl",
     0, "\"a,b\"", NULL},
    {"cd $T; $SQZ plan --model $MODEL --dataset x=a,b.jsonl --json - | grep 'a,b[.]jsonl\"'", 0,
     "\"x=/", NULL},
    {"cd $T; $SQZ plan --model $MODEL --dataset $DATA/facts_test.jsonl --set dataset=a,b.jsonl "
     "--json - | grep 'a,b[.]jsonl\"'",
     0, "\"/", NULL},
    {"$SQZ eval $MODEL --dataset hellasweg=$DATA/facts_test.jsonl --limit 1", 0, "acc_norm",
     "did you mean hellaswag=/"},
    {"$SQZ plan --model $MODEL --dataset boolqq=$DATA/facts_test.jsonl", 0, "First strategies",
     "\"boolqq\" is no task"},
    {"$SQZ eval $MODEL --dataset sqa=$DATA/facts_test.jsonl --limit 1", 0, "acc_norm", NULL},
    {"$SQZ validate $MODEL $MODEL --dataset $DATA/facts_test.jsonl --skip looops", 2, NULL,
     "did you mean loops?"},
    {"$SQZ validate $MODEL $MODEL --dataset $DATA/facts_test.jsonl --skip nope", 2, NULL,
     "there are accuracy_drop, perplexity_increase, "},
    {"$SQZ schema --core", 0, "\"properties\"", NULL},
    {"$SQZ schema", 0, "\"plugins\"", NULL},
    /* runs */
    {"$SQZ run", 2, NULL, "--config FILE, or --model MODEL"},
    {"$SQZ --model $MODEL --dataset $DATA/test.jsonl --budget soon", 2, NULL, "12trials"},
    {"$SQZ run --resume $T/no --config x", 2, NULL, "--resume continues the run as recorded"},
    {"$SQZ --config $T/no.json", 2, NULL, "no.json"},
    {"$SQZ report $T/no", 3, NULL, "no such run folder"},
    {"cp -r $MODEL $T/torn; chmod -R u+w $T/torn; echo '{\"model\":[' >$T/torn/tokenizer.json; "
     "$SQZ quantize $T/torn --method rtn --registry $T/reg3 --output $T/tornq",
     0, "linears", "/tornq/tokenizer.json:"},
    {"$SQZ quantize $MODEL --output $T/q", 2, NULL, "--method and --output"},
    {"$SQZ quantize $MODEL --method no-such --output $T/q", 2, NULL, "no-such"},
    {"$SQZ quantize $MODEL --method rtn --symmetric --asymmetric --output $T/q", 2, NULL,
     "exclude"},
    {"$SQZ quantize $MODEL --method rtn --param bogus=3 --output $T/q", 2, NULL, "bogus"},
    {"$SQZ quantize $MODEL --method rtn --param bits --output $T/q", 2, NULL, "name=value"},
    {"$SQZ eval $MODEL --dataset $DATA/test.jsonl,test=$DATA/valid.jsonl", 2, NULL, "NAME=FILE"},
};

START_TEST(command_lines)
{
    ran r = sh(table[_i].line);
    ck_assert_msg(r.code == table[_i].code, "%s\n exit %d, wanted %d\nstdout: %s\nstderr: %s",
                  table[_i].line, r.code, table[_i].code, r.out, r.err);
    const char *const want[] = {table[_i].out, table[_i].err}, *const got[] = {r.out, r.err};
    for (int k = 0; k < 2; k++)
        ck_assert_msg(want[k] ? strstr(got[k], want[k]) != NULL : !*got[k],
                      "%s\n %s: wanted \"%s\", got: %s", table[_i].line, k ? "stderr" : "stdout",
                      want[k] ? want[k] : "", got[k]);
    drop(&r);
}
END_TEST

/* ---- JSON keys of the contract ------------------------------------------------------------------
 */
static cJSON *parse(const char *text)
{
    json_doc *doc;
    sqz_error e = {0};
    sqz_status s = json_parse(text, (int64_t)strlen(text), 0, "out", &doc, &e);
    ck_assert_msg(s == SQZ_OK, "%s in: %s", e.text, text);
    cJSON *copy = cJSON_Duplicate(json_root(doc), 1);
    json_free(doc);
    return copy;
}

static void has_keys(const cJSON *o, const char *keys)
{
    char *copy = path_format("%s", keys), *save = NULL;
    for (char *k = strtok_r(copy, " ", &save); k; k = strtok_r(NULL, " ", &save)) {
        const cJSON *at = o;
        char *inner = NULL;
        for (char *p = strtok_r(k, ".", &inner); p; p = strtok_r(NULL, ".", &inner)) {
            at = json_get(at, p);
            ck_assert_msg(at != NULL, "key %s is missing (of %s)", p, keys);
        }
    }
    free(copy);
}

START_TEST(json_of_generate)
{
    ran r =
        sh("$SQZ generate $MODEL --prompt 'Question: What is 2 + 3?' --max-new-tokens 12 --json -");
    ck_assert_msg(r.code == 0, "%s", r.err);
    cJSON *j = parse(r.out); /* nothing else may stand on stdout */
    has_keys(j, "text ids prompt_tokens new_tokens ttft_seconds");
    ck_assert_int_eq(cJSON_GetArraySize(json_get(j, "ids")), json_int(j, "new_tokens", -1));
    ran plain =
        sh("$SQZ generate $MODEL --prompt 'Question: What is 2 + 3?' --max-new-tokens 12 --quiet");
    char *want = path_format("%s\n", json_str(j, "text", "?"));
    ck_assert_str_eq(plain.out, want); /* streamed in pieces, the same text */
    ck_assert_str_eq(plain.err, "");
    free(want);
    cJSON_Delete(j);
    drop(&plain);
    drop(&r);
}
END_TEST

START_TEST(json_of_estimate)
{
    ran r = sh("$SQZ estimate $MODEL --json $T/e.json");
    ck_assert_int_eq(r.code, 0);
    char *path = path_format("%s/e.json", folder), *text = slurp(path);
    cJSON *j = parse(text);
    has_keys(j, "parameters weights.fp16 weights.int8 weights.int4 kv_cache total recommended");
    ck_assert_double_gt(json_num(json_get(j, "weights"), "fp16", 0),
                        json_num(json_get(j, "weights"), "int4", 1e18));
    ck_assert_int_eq(json_int(json_get(j, "weights"), "fp16", 0), 2 * json_int(j, "parameters", 0));
    cJSON_Delete(j);
    free(text);
    free(path);
    drop(&r);
}
END_TEST

START_TEST(failures_are_json_too)
{
    ran r = sh("$SQZ eval $T/absent --dataset x.jsonl --json -");
    ck_assert_int_eq(r.code, 3);
    cJSON *j = parse(r.out);
    has_keys(j, "error.code error.message error.exit_code");
    ck_assert_str_eq(json_str(json_get(j, "error"), "code", ""), "model");
    cJSON_Delete(j);
    drop(&r);
}
END_TEST

START_TEST(json_to_a_full_disk)
{
    ran r = sh("$SQZ version --json /dev/full/x");
    ck_assert_int_eq(r.code, 7);
    drop(&r);
    r = sh("$SQZ schema --core >/dev/full");
    ck_assert_msg(r.code == 7, "exit %d: %s", r.code, r.err);
    ck_assert_ptr_nonnull(strstr(r.err, "stdout"));
    drop(&r);
}
END_TEST

START_TEST(logits_round_trip)
{
    char *in = path_format("%s/ids.safetensors", folder),
         *out = path_format("%s/lg.safetensors", folder);
    st_writer *w;
    st_file *f;
    int64_t shape[2] = {2, 5}, ids[10] = {1, 5, 9, 20, 300, 4, 8, 15, 16, 23};
    ck_assert_int_eq(st_writer_new(in, &w, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_declare(w, "input_ids", SQZ_I64, 2, shape, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_write(w, "input_ids", ids, sizeof ids, NULL), SQZ_OK);
    ck_assert_int_eq(st_writer_finish(w, NULL), SQZ_OK);
    ran r =
        sh("$SQZ logits $MODEL --input-ids $T/ids.safetensors --output $T/lg.safetensors --hidden");
    ck_assert_msg(r.code == 0, "%s", r.err);
    ck_assert_int_eq(st_open(out, &f, NULL), SQZ_OK);
    const st_tensor *t = st_find(f, "logits");
    ck_assert_ptr_nonnull(t);
    ck_assert_int_eq(t->dtype, SQZ_F32);
    ck_assert(t->rank == 3 && t->shape[0] == 2 && t->shape[1] == 5);
    const st_tensor *h0 = st_find(f, "hidden.0"), *h4 = st_find(f, "hidden.4");
    ck_assert(h0 && h4 && !st_find(f, "hidden.5"));
    ck_assert(h0->shape[0] == 2 && h0->shape[1] == 5 && h0->shape[2] == h4->shape[2]);
    st_close(f);
    free(in);
    free(out);
    drop(&r);
}
END_TEST

/* A fallback is told once as it happens, and in the result also when the step is reused. */
START_TEST(quantize_notes)
{
    for (int again = 0; again < 2; again++) {
        ran r = sh("rm -rf $T/few; $SQZ quantize $MODEL --method gptq --bits 4 --samples 1 "
                   "--seq-len 16 --calibration $DATA/calib.jsonl --output $T/few --registry "
                   "$T/few.reg");
        ck_assert_msg(r.code == 0, "%s", r.err);
        ck_assert_msg(strstr(r.out, "28 with a note") && strstr(r.out, "rounded to nearest"), "%s",
                      r.out);
        const char *at = strstr(r.err, "model.layers.0.mlp.down_proj: rounded to nearest");
        ck_assert_msg((at == NULL) == again, "%s", r.err);
        if (at)
            ck_assert_msg(!strstr(at + 1, "model.layers.0.mlp.down_proj: rounded"), "%s", r.err);
        drop(&r);
    }
}
END_TEST

START_TEST(quantize_and_eval)
{
    ran r = sh("$SQZ quantize $MODEL --method rtn --bits 4 --group-size 32 --output $T/q4 --json "
               "$T/q.json "
               "--registry $T/reg");
    ck_assert_msg(r.code == 0, "%s", r.err);
    char *path = path_format("%s/q.json", folder), *text = slurp(path);
    cJSON *j = parse(text);
    has_keys(j, "method params effective_bits_per_weight bytes seconds.load seconds.quantize "
                "seconds.export "
                "seconds.total peak_rss_bytes layers output artifact");
    ck_assert_int_eq(json_int(json_get(j, "params"), "bits", 0), 4);
    ck_assert_int_eq(cJSON_GetArraySize(json_get(j, "layers")), 28);
    has_keys(json_get(j, "layers")->child, "name bits group_size error relative_error seconds");
    cJSON_Delete(j);
    drop(&r);
    r = sh("$SQZ registry ls --json - --registry $T/reg");
    j = parse(r.out);
    ck_assert_int_eq(cJSON_GetArraySize(json_get(j, "artifacts")), 1);
    cJSON_Delete(j);
    drop(&r);
    r = sh("d=$($SQZ registry ls --registry $T/reg | grep -o 'sha256:[0-9a-f]*') && "
           "$SQZ registry tag $d small --registry $T/reg && "
           "$SQZ eval small --registry $T/reg --dataset $DATA/facts_test.jsonl --limit 20 "
           "--compute fp32 --json $T/a.json && "
           "$SQZ eval $T/q4 --registry $T/reg --dataset $DATA/facts_test.jsonl --limit 20 "
           "--compute fp32 --json $T/b.json");
    ck_assert_msg(r.code == 0, "%s", r.err);
    drop(&r);
    /* The artifact and the exported folder are the same model: the same outcome item by item. */
    char *a = path_format("%s/a.json.items.jsonl", folder),
         *b = path_format("%s/b.json.items.jsonl", folder);
    char *x = slurp(a), *y = slurp(b);
    ck_assert_str_eq(x, y);
    ck_assert_ptr_nonnull(strstr(x, "{\"dataset\":\"facts_test\",\"i\":0,"));
    free(a);
    free(b);
    free(x);
    free(y);
    free(text);
    free(path);
}
END_TEST

/* ---- terminal manners
 * ----------------------------------------------------------------------------- */
START_TEST(no_escape_codes_without_a_terminal)
{
    ran r = sh("env -u NO_COLOR TERM=xterm $SQZ plugin list; env TERM=xterm $SQZ eval nowhere "
               "--dataset x");
    ck_assert_ptr_null(strchr(r.out, '\033'));
    ck_assert_ptr_null(strchr(r.err, '\033'));
    drop(&r);
    r = sh("CLICOLOR_FORCE=1 $SQZ plugin list");
    ck_assert_ptr_nonnull(strchr(r.out, '\033'));
    drop(&r);
    r = sh("CLICOLOR_FORCE=1 NO_COLOR=1 $SQZ plugin list");
    ck_assert_ptr_null(strchr(r.out, '\033'));
    drop(&r);
    r = sh("NO_COLOR=1 $SQZ plugin list --color always");
    ck_assert_ptr_nonnull(strchr(r.out, '\033'));
    drop(&r);
    r = sh("$SQZ plugin list --color=never --color sometimes");
    ck_assert_int_eq(r.code, 2);
    drop(&r);
}
END_TEST

/* Interrupting a long command leaves exit code 130 and no worker behind. */
START_TEST(interrupt)
{
    char *reg = path_format("%s/reg2", folder);
    const char *argv[] = {SQZ,          "eval", MODEL,     "--dataset", DATA "/arith_train.jsonl",
                          "--registry", reg,    "--quiet", NULL};
    pid_t pid;
    int status = 0;
    posix_spawn_file_actions_t null;
    posix_spawn_file_actions_init(&null);
    posix_spawn_file_actions_addopen(&null, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&null, 2, "/dev/null", O_WRONLY, 0);
    ck_assert_int_eq(posix_spawn(&pid, SQZ, &null, NULL, (char *const *)argv, environ), 0);
    sleep(1);
    kill(pid, SIGINT);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 130);
    posix_spawn_file_actions_destroy(&null);
    free(reg);
}
END_TEST

/* ---- parsing, directly
 * ------------------------------------------------------------------------------ */
START_TEST(sizes_and_durations)
{
    static const struct {
        const char *text;
        double value;
    } sizes[] = {{"8GB", 8e9},    {"1.5GiB", 1610612736},
                 {"700 MB", 7e8}, {"123", 123},
                 {"2k", 2000},    {"x", -1},
                 {"", -1},        {"-1GB", -1},
                 {"8GBs", -1},    {"1e30", -1},
                 {"nan", -1}},
      times[] = {{"2h", 7200}, {"90s", 90}, {"1h30m", 5400}, {"500ms", 0.5}, {"1d", 86400},
                 {"3", 3},     {"h", -1},   {"", -1},        {"2h x", -1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t v = -1;
        sqz_status s = parse_size(sizes[i].text, &v, NULL);
        ck_assert_msg((s == SQZ_OK) == (sizes[i].value >= 0), "%s", sizes[i].text);
        if (!s) ck_assert_double_eq((double)v, sizes[i].value);
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        double v = -1;
        sqz_status s = parse_seconds(times[i].text, &v, NULL);
        ck_assert_msg((s == SQZ_OK) == (times[i].value >= 0), "%s", times[i].text);
        if (!s) ck_assert_double_eq_tol(v, times[i].value, 1e-9);
    }
}
END_TEST

/* Every option in the tables is in its help, and every command has examples. */
START_TEST(help_is_complete)
{
    for (int i = 0; i < cli_n_commands; i++) {
        const command *k = cli_commands[i];
        char *text = cli_help(k);
        ck_assert_msg(k->examples && strstr(text, k->examples), "%s has no examples", k->name);
        for (int o = 0; o < k->n_options + cli_n_common; o++) {
            const cli_option *opt =
                o < k->n_options ? &k->options[o] : &cli_common[o - k->n_options];
            char *flag = path_format("--%s", opt->name);
            ck_assert_msg(strstr(text, flag) && opt->help && *opt->help, "%s: %s", k->name, flag);
            ck_assert_msg((opt->type == CLI_FLAG) == (opt->value == NULL), "%s: %s", k->name, flag);
            free(flag);
        }
        for (const char *line = text; *line;) {
            size_t n = strcspn(line, "\n");
            ck_assert_msg(n <= 130, "%s: a help line has %zu bytes: %.60s", k->name, n, line);
            line += n + (line[n] == '\n');
        }
        free(text);
    }
}
END_TEST

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    setenv("SQZ", SQZ, 1);
    setenv("MODEL", MODEL, 1);
    setenv("PLUGINS", SQZ_PLUGIN_DIR, 1);
    setenv("DATA", DATA, 1);
    setenv("T", folder, 1);
    unsetenv("NO_COLOR");
    unsetenv("CLICOLOR_FORCE");
    unsetenv("FORCE_COLOR");
}

static void tear_down(void)
{
    dir_remove(folder, NULL);
}

int main(void)
{
    Suite *s = suite_create("cli");
    TCase *t = tcase_create("cli");
    tcase_add_unchecked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, command_lines, 0, (int)(sizeof table / sizeof *table));
    tcase_add_test(t, json_of_generate);
    tcase_add_test(t, json_of_estimate);
    tcase_add_test(t, failures_are_json_too);
    tcase_add_test(t, json_to_a_full_disk);
    tcase_add_test(t, logits_round_trip);
    tcase_add_test(t, quantize_notes);
    tcase_add_test(t, quantize_and_eval);
    tcase_add_test(t, no_escape_codes_without_a_terminal);
    tcase_add_test(t, interrupt);
    tcase_add_test(t, sizes_and_durations);
    tcase_add_test(t, help_is_complete);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
