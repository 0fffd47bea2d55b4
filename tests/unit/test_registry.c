/* The registry: objects named by content, corruption found, named and healed; actions; artifacts by
 * digest, prefix and tag; gc that never takes what is alive. */
#include "registry.h"
#include "scratch.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static registry *reg;
static char *dir;

static void setup(void)
{
    sqz_error err;
    scratch_make();
    dir = path_format("%s/deep/registry", scratch);
    ck_assert_msg(registry_open(dir, &reg, &err) == SQZ_OK, "%s", err.text);
}

static void teardown(void)
{
    registry_close(reg);
    free(dir);
    scratch_remove();
}

static void put(const char *text, char digest[DIGEST_TEXT])
{
    sqz_error err;
    ck_assert_msg(object_put(reg, text, (int64_t)strlen(text), digest, &err) == SQZ_OK, "%s",
                  err.text);
}

static int has(const char *digest)
{
    char *path = object_path(reg, digest);
    int yes = path != NULL;
    free(path);
    return yes;
}

/* Makes an object or any file look unused for `days` days. */
static void age(const char *path, int days)
{
    struct timespec old[2] = {{time(NULL) - days * 86400, 0}, {time(NULL) - days * 86400, 0}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, old, 0), 0);
}

static void age_object(const char *digest, int days)
{
    char *path = object_path(reg, digest);
    age(path, days);
    free(path);
}

/* Overwrites the object in place, as a failing disk would. */
static void corrupt(const char *digest, const char *text)
{
    char *path = object_path(reg, digest);
    ck_assert_int_eq(chmod(path, 0644), 0);
    FILE *f = fopen(path, "wb");
    fputs(text, f);
    fclose(f);
    free(path);
}

static int files_in(const char *sub)
{
    char *command = path_format("exit $(find %s/%s -type f | wc -l)", dir, sub);
    int status = system(command);
    free(command);
    return WEXITSTATUS(status);
}

/* ---- objects --------------------------------------------------------------------------------- */

START_TEST(known_digests)
{
    char a[DIGEST_TEXT];
    put("abc", a);
    ck_assert_str_eq(a, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    put("", a);
    ck_assert_str_eq(a, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    char *path = path_format("%s/objects/sha256/ba/"
                             "7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                             dir);
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_int_eq(info.st_mode & 0777, 0444);
    ck_assert_int_eq(files_in("tmp"), 0);
    free(path);
}
END_TEST

START_TEST(digest_form)
{
    char d[DIGEST_TEXT + 1] = "";
    sha256_buffer("x", 1, d);
    ck_assert(digest_valid(d));
    d[70] = 'g';
    ck_assert(!digest_valid(d));
    d[70] = 'A';
    ck_assert(!digest_valid(d));
    d[70] = 0;
    ck_assert(!digest_valid(d));
    ck_assert(!digest_valid(NULL));
    ck_assert(!digest_valid("sha256:../../../../etc/passwd"));
    ck_assert_ptr_null(object_path(reg, "sha256:../../../../etc/passwd"));
}
END_TEST

START_TEST(reads_what_was_put)
{
    char a[DIGEST_TEXT], *data;
    int64_t bytes;
    sqz_error err;
    ck_assert_int_eq(object_put(reg, "a\0b", 3, a, NULL), SQZ_OK);
    ck_assert_int_eq(object_read(reg, a, &data, &bytes, NULL), SQZ_OK);
    ck_assert_int_eq(bytes, 3);
    ck_assert_mem_eq(data, "a\0b", 4);
    free(data);
    ck_assert_int_eq(object_verify(reg, a, NULL), SQZ_OK);
    a[10] = a[10] == '0' ? '1' : '0';
    ck_assert_int_eq(object_verify(reg, a, &err), ERR_STORAGE);
    ck_assert_ptr_nonnull(strstr(err.text, a));
    ck_assert_int_eq(object_read(reg, "nonsense", &data, &bytes, &err), SQZ_E_INVALID);
}
END_TEST

START_TEST(corruption_is_named_and_healed)
{
    char a[DIGEST_TEXT], *data;
    int64_t bytes;
    sqz_error err;
    put("precious", a);
    static const char *const damage[] = {"precioux", "", "precious and more"};
    for (int i = 0; i < 3; i++) {
        corrupt(a, damage[i]);
        ck_assert_int_eq(object_verify(reg, a, &err), ERR_STORAGE);
        ck_assert_ptr_nonnull(strstr(err.text, a));
        ck_assert_ptr_nonnull(strstr(err.text, "corrupt"));
        ck_assert_int_eq(object_read(reg, a, &data, &bytes, &err), ERR_STORAGE);
        put("precious", a); /* the same bytes again repair it */
        ck_assert_int_eq(object_verify(reg, a, NULL), SQZ_OK);
    }
}
END_TEST

/* What this handle wrote or hashed is not hashed again; another one looks for itself, once. */
START_TEST(checked_once)
{
    char a[DIGEST_TEXT], missing[DIGEST_TEXT];
    sqz_error err;
    registry *other = NULL;
    put("weights", a);
    ck_assert_int_eq(registry_open(registry_dir(reg), &other, NULL), SQZ_OK);
    ck_assert_int_eq(object_checked(other, a, NULL), SQZ_OK);
    corrupt(a, "Weights");
    ck_assert_int_eq(object_checked(reg, a, NULL), SQZ_OK);
    ck_assert_int_eq(object_checked(other, a, NULL), SQZ_OK);
    registry_close(other);
    ck_assert_int_eq(registry_open(registry_dir(reg), &other, NULL), SQZ_OK);
    ck_assert_int_eq(object_checked(other, a, &err), ERR_STORAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "corrupt"));
    put("weights", a);
    ck_assert_int_eq(object_checked(other, a, NULL), SQZ_OK);
    sha256_buffer("nowhere", 7, missing);
    ck_assert_int_eq(object_checked(other, missing, NULL), ERR_STORAGE);
    registry_close(other);
}
END_TEST

START_TEST(adopts)
{
    char a[DIGEST_TEXT], b[DIGEST_TEXT], *temp = object_temp(reg), *data;
    char *other = path_format("%s/outside", scratch), *link_name = path_format("%s/link", scratch);
    int64_t bytes;
    sqz_error err;
    sha256_buffer("finished", 8, b);
    ck_assert_int_eq(file_write(temp, "finished", 8, NULL), SQZ_OK);
    ck_assert_int_eq(object_adopt(reg, temp, a, NULL), SQZ_OK);
    ck_assert_str_eq(a, b);
    ck_assert(!path_exists(temp));
    ck_assert_int_eq(object_verify(reg, a, NULL), SQZ_OK);
    /* the same again, and over a corrupt one */
    corrupt(a, "Finished");
    ck_assert_int_eq(file_write(temp, "finished", 8, NULL), SQZ_OK);
    ck_assert_int_eq(object_adopt(reg, temp, a, NULL), SQZ_OK);
    ck_assert_int_eq(object_verify(reg, a, NULL), SQZ_OK);
    ck_assert(!path_exists(temp));
    /* a file with a second name is copied, so that the other name cannot change the object */
    ck_assert_int_eq(file_write(other, "shared", 6, NULL), SQZ_OK);
    ck_assert_int_eq(link(other, link_name), 0);
    ck_assert_int_eq(object_adopt(reg, other, a, NULL), SQZ_OK);
    ck_assert_int_eq(truncate(link_name, 1), 0);
    ck_assert_int_eq(object_read(reg, a, &data, &bytes, NULL), SQZ_OK);
    ck_assert_str_eq(data, "shared");
    free(data);
    ck_assert_int_eq(object_adopt(reg, other, a, &err), ERR_STORAGE); /* gone */
    ck_assert_int_eq(object_adopt(reg, scratch, a, &err), SQZ_E_INVALID);
    ck_assert_int_eq(files_in("tmp"), 0);
    free(link_name);
    free(other);
    free(temp);
}
END_TEST

/* A killed process's files go, at once; those of a process whose number begins alike stay. */
START_TEST(forgets_the_dead)
{
    char *dead = object_temp(reg), *other = path_format("%s/tmp/%d1.0", dir, getpid());
    char *half = path_format("%s.tmp.%d.0", dead, getpid());
    const char *const all[] = {dead, half, other};
    for (int i = 0; i < 3; i++) ck_assert_int_eq(file_write(all[i], "x", 1, NULL), SQZ_OK);
    object_forget(dir, getpid());
    ck_assert_int_ne(access(dead, F_OK), 0);
    ck_assert_int_ne(access(half, F_OK), 0);
    ck_assert_int_eq(access(other, F_OK), 0);
    free(dead);
    free(half);
    free(other);
}
END_TEST

START_TEST(adopts_from_another_file_system)
{
    char name[] = "/dev/shm/sqz-test-XXXXXX", a[DIGEST_TEXT];
    int fd = mkstemp(name);
    if (fd < 0) {
        puts("skipped: /dev/shm cannot be written");
        return;
    }
    ck_assert_int_eq(write(fd, "far away", 8), 8);
    close(fd);
    ck_assert_int_eq(object_adopt(reg, name, a, NULL), SQZ_OK);
    ck_assert(!path_exists(name));
    ck_assert_int_eq(object_verify(reg, a, NULL), SQZ_OK);
    ck_assert_int_eq(files_in("tmp"), 0);
}
END_TEST

static void *writer(void *arg)
{
    char a[DIGEST_TEXT], text[32];
    for (int i = 0; i < 25; i++) {
        snprintf(text, sizeof text, "object %d", i);
        if (object_put(arg, text, (int64_t)strlen(text), a, NULL) != SQZ_OK) return arg;
    }
    return NULL;
}

START_TEST(many_writers)
{
    pthread_t ids[4];
    void *failed;
    for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_create(&ids[i], NULL, writer, reg), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(ids[i], &failed);
        ck_assert_ptr_null(failed);
    }
    ck_assert_int_eq(files_in("objects"), 25);
    ck_assert_int_eq(files_in("tmp"), 0);
}
END_TEST

START_TEST(full_disk)
{
    struct rlimit before, limit;
    char a[DIGEST_TEXT] = "untouched", *big = calloc(1, 100000);
    sqz_error err;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 4096;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(object_put(reg, big, 100000, a, &err), ERR_STORAGE);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    ck_assert_str_eq(a, "untouched");
    ck_assert_int_eq(files_in("objects"), 0);
    ck_assert_int_eq(files_in("tmp"), 0);
    free(big);
}
END_TEST

/* ---- actions --------------------------------------------------------------------------------- */

START_TEST(actions)
{
    char key[SHA256_HEX], same[SHA256_HEX];
    cJSON *inputs = cJSON_Parse("{\"b\":[1,2],\"a\":\"x\"}"), *result = cJSON_Parse("{\"r\":0.1}");
    cJSON *reordered = cJSON_Parse("{\"a\":\"x\",\"b\":[1,2.0]}");
    action_key(inputs, key);
    action_key(reordered, same);
    ck_assert_str_eq(key, same);
    ck_assert_uint_eq(strlen(key), 64);
    ck_assert_ptr_null(action_get(reg, key));
    ck_assert_int_eq(action_put(reg, key, result, NULL), SQZ_OK);
    cJSON *got = action_get(reg, key);
    ck_assert(cJSON_Compare(got, result, 1));
    cJSON_Delete(got);

    /* damage of any byte is a miss or, where it changes nothing, the same result */
    char *path = path_format("%s/actions/%.2s/%s.json", dir, key, key), *data;
    int64_t bytes;
    ck_assert_int_eq(file_read(path, 10000, &data, &bytes, NULL), SQZ_OK);
    for (int64_t i = 0; i < bytes; i++) {
        data[i] ^= 1;
        FILE *f = fopen(path, "wb");
        fwrite(data, 1, (size_t)bytes, f);
        fclose(f);
        data[i] ^= 1;
        got = action_get(reg, key);
        if (got && !cJSON_Compare(got, result, 1)) ck_abort_msg("byte %lld: wrong", (long long)i);
        cJSON_Delete(got);
    }
    /* somebody else's entry under this key */
    ck_assert_int_eq(action_put(reg, key, result, NULL), SQZ_OK);
    key[0] = key[0] == '0' ? '1' : '0';
    char *folder = path_format("%s/actions/%.2s", dir, key);
    char *wrong = path_format("%s/%s.json", folder, key);
    ck_assert_int_eq(dir_make(folder, NULL), SQZ_OK);
    ck_assert_int_eq(rename(path, wrong), 0);
    ck_assert_ptr_null(action_get(reg, key));
    ck_assert_ptr_null(action_get(reg, "../../etc"));
    ck_assert_int_ne(action_put(reg, "../../etc", result, NULL), SQZ_OK);
    free(wrong);
    free(folder);
    free(data);
    free(path);
    cJSON_Delete(reordered);
    cJSON_Delete(result);
    cJSON_Delete(inputs);
}
END_TEST

/* ---- artifacts ------------------------------------------------------------------------------- */

#define BASE "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static cJSON *make_manifest(const char *object)
{
    cJSON *m = cJSON_CreateObject(), *tensors = cJSON_AddObjectToObject(m, "tensors");
    cJSON_AddStringToObject(m, "schema", "sqz.artifact/1");
    cJSON_AddStringToObject(m, "base", BASE);
    cJSON *t = cJSON_AddObjectToObject(tensors, "model.layers.0.mlp.up_proj");
    cJSON_AddStringToObject(t, "form", "int-affine/1");
    cJSON_AddStringToObject(t, "object", object);
    cJSON_AddObjectToObject(m, "runtime");
    return m;
}

/* An artifact of one object with this content, recorded. */
static void make_artifact(const char *content, double created, const char *parent,
                          char object[DIGEST_TEXT], char digest[DIGEST_TEXT])
{
    sqz_error err;
    put(content, object);
    cJSON *m = make_manifest(object);
    ck_assert_msg(artifact_put(reg, m, digest, &err) == SQZ_OK, "%s", err.text);
    cJSON_Delete(m);
    artifact_row row = {.model = (char *)"tiny",
                        .label = (char *)content,
                        .bytes = 7,
                        .steps_json = (char *)"[]",
                        .created = created};
    memcpy(row.digest, digest, DIGEST_TEXT);
    memcpy(row.base, BASE, DIGEST_TEXT);
    ck_assert_msg(artifact_record(reg, &row, parent, &err) == SQZ_OK, "%s", err.text);
}

START_TEST(manifests)
{
    char object[DIGEST_TEXT], digest[DIGEST_TEXT];
    sqz_error err;
    put("weights", object);
    cJSON *m = make_manifest(object), *back;
    ck_assert_int_eq(artifact_put(reg, m, digest, NULL), SQZ_OK);
    back = artifact_manifest(reg, digest, NULL);
    ck_assert(cJSON_Compare(m, back, 1));
    cJSON_Delete(back);
    ck_assert_ptr_null(artifact_manifest(reg, object, &err)); /* weights are no manifest */
    cJSON_Delete(m);

    m = make_manifest(BASE); /* an object that is not there */
    ck_assert_int_eq(artifact_put(reg, m, digest, &err), ERR_STORAGE);
    ck_assert_ptr_nonnull(strstr(err.text, BASE));
    cJSON_ReplaceItemInObject(m, "schema", cJSON_CreateString("sqz.artifact/9"));
    ck_assert_int_eq(artifact_put(reg, m, digest, &err), SQZ_E_INVALID);
    cJSON_Delete(m);
}
END_TEST

typedef struct listing {
    char text[1000];
    int stop_after;
} listing;

static int list_one(void *arg, const artifact_row *row, cJSON *tags)
{
    listing *l = arg;
    char *text = json_canonical(tags);
    size_t n = strlen(l->text);
    snprintf(l->text + n, sizeof l->text - n, "%s %s %s %lld %s;", row->label, row->model,
             row->steps_json, (long long)row->bytes, text);
    free(text);
    return --l->stop_after == 0;
}

START_TEST(records)
{
    char object[DIGEST_TEXT], a[DIGEST_TEXT], b[DIGEST_TEXT], got[DIGEST_TEXT], prefix[20];
    sqz_error err;
    make_artifact("one", 1000, NULL, object, a);
    make_artifact("two", 2000, a, object, b);
    make_artifact("one", 3000, NULL, object, a); /* again: the first record stays */
    ck_assert_int_eq(artifact_tag(reg, "best", a, NULL), SQZ_OK);
    ck_assert_int_eq(artifact_tag(reg, "also/v1.0", "best", NULL), SQZ_OK);
    listing l = {.text = ""};
    ck_assert_int_eq(artifact_list(reg, list_one, &l, NULL), SQZ_OK);
    ck_assert_str_eq(l.text, "two tiny [] 7 [];one tiny [] 7 [\"also/v1.0\",\"best\"];");
    listing first = {.stop_after = 1};
    ck_assert_int_eq(artifact_list(reg, list_one, &first, NULL), SQZ_OK);
    ck_assert_str_eq(first.text, "two tiny [] 7 [];");

    ck_assert_int_eq(artifact_resolve(reg, "best", got, NULL), SQZ_OK);
    ck_assert_str_eq(got, a);
    ck_assert_int_eq(artifact_tag(reg, "best", b, NULL), SQZ_OK); /* moves */
    ck_assert_int_eq(artifact_resolve(reg, "best", got, NULL), SQZ_OK);
    ck_assert_str_eq(got, b);
    ck_assert_int_eq(artifact_resolve(reg, a, got, NULL), SQZ_OK);
    snprintf(prefix, sizeof prefix, "%.13s", a);
    ck_assert_int_eq(artifact_resolve(reg, prefix, got, NULL), SQZ_OK);
    ck_assert_str_eq(got, a);
    ck_assert_int_eq(artifact_resolve(reg, prefix + 7, got, NULL), SQZ_OK);
    ck_assert_str_eq(got, a);
    prefix[12] = 0; /* five digits are too few */
    ck_assert_int_eq(artifact_resolve(reg, prefix, got, &err), ERR_USAGE);
    ck_assert_int_eq(artifact_resolve(reg, "nobody", got, &err), ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "'nobody'"));
    ck_assert_int_eq(artifact_tag(reg, "bad tag", a, &err), ERR_USAGE);
    ck_assert_int_eq(artifact_tag(reg, "", a, &err), ERR_USAGE);
    ck_assert_int_eq(artifact_tag(reg, a + 7, a, &err), ERR_USAGE);
    ck_assert_int_eq(artifact_tag(reg, "x", BASE, &err), ERR_USAGE);

    cJSON *parents;
    ck_assert_int_eq(artifact_parents(reg, b, &parents, NULL), SQZ_OK);
    ck_assert_int_eq(cJSON_GetArraySize(parents), 1);
    ck_assert_str_eq(parents->child->valuestring, a);
    cJSON_Delete(parents);

    /* durable: another process would see the same */
    registry_close(reg);
    ck_assert_int_eq(registry_open(dir, &reg, NULL), SQZ_OK);
    ck_assert_int_eq(artifact_resolve(reg, "also/v1.0", got, NULL), SQZ_OK);
    ck_assert_str_eq(got, a);
}
END_TEST

START_TEST(ambiguous_prefix)
{
    char object[DIGEST_TEXT], digest[DIGEST_TEXT], got[DIGEST_TEXT];
    sqz_error err;
    make_artifact("one", 1, NULL, object, digest);
    /* a second digest with the same beginning cannot be made; enter one by hand */
    char *path = path_format("%s/registry.db", dir);
    char *sql =
        path_format("INSERT INTO artifacts SELECT substr(digest,1,70)||'%c',base,model,label,"
                    "steps,run,bytes,created FROM artifacts",
                    digest[70] == '0' ? '1' : '0');
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    free(sql);
    free(path);
    digest[30] = 0;
    ck_assert_int_eq(artifact_resolve(reg, digest, got, &err), ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "more than one"));
}
END_TEST

/* ---- verify ---------------------------------------------------------------------------------- */

static int problem_with(const registry_report *report, const char *text)
{
    for (const cJSON *p = report->problems->child; p; p = p->next)
        if (strstr(p->valuestring, text)) return 1;
    return 0;
}

START_TEST(verifies)
{
    char o1[DIGEST_TEXT], o2[DIGEST_TEXT], a1[DIGEST_TEXT], a2[DIGEST_TEXT], loose[DIGEST_TEXT];
    registry_report report;
    make_artifact("first", 1, NULL, o1, a1);
    make_artifact("second", 2, a1, o2, a2);
    put("loose", loose);
    ck_assert_int_eq(registry_verify(reg, &report, NULL), SQZ_OK);
    ck_assert_int_eq(report.objects, 5);
    ck_assert_int_eq(report.bad + report.missing + cJSON_GetArraySize(report.problems), 0);
    cJSON_Delete(report.problems);

    corrupt(loose, "lo0se");
    char *gone = object_path(reg, o2), *stray = path_format("%s/objects/sha256/ab/stray", dir);
    char *folder = path_format("%s/objects/sha256/ab", dir);
    ck_assert_int_eq(unlink(gone), 0);
    ck_assert_int_eq(dir_make(folder, NULL), SQZ_OK);
    ck_assert_int_eq(file_write(stray, "x", 1, NULL), SQZ_OK);
    ck_assert_int_eq(registry_verify(reg, &report, NULL), SQZ_OK);
    ck_assert_int_eq(report.bad, 1);
    ck_assert_int_eq(report.missing, 1);
    ck_assert_int_eq(cJSON_GetArraySize(report.problems), 3);
    ck_assert(problem_with(&report, loose));
    ck_assert(problem_with(&report, o2));
    ck_assert(problem_with(&report, "ab/stray"));
    cJSON_Delete(report.problems);

    corrupt(a1, "{}");
    ck_assert_int_eq(registry_verify(reg, &report, NULL), SQZ_OK);
    ck_assert_int_eq(report.bad, 2);
    ck_assert(problem_with(&report, a1));
    cJSON_Delete(report.problems);
    free(folder);
    free(stray);
    free(gone);
}
END_TEST

START_TEST(damaged_database)
{
    registry_report report;
    sqz_error err;
    char got[DIGEST_TEXT], *path = path_format("%s/registry.db", dir);
    ck_assert_int_eq(
        file_write(path, "this is not a database, only some text of some length", 53, NULL),
        SQZ_OK);
    ck_assert_int_eq(artifact_resolve(reg, "x", got, &err), ERR_STORAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "registry.db"));
    ck_assert_int_eq(registry_verify(reg, &report, NULL), SQZ_OK);
    ck_assert_int_eq(report.bad, 1);
    ck_assert(problem_with(&report, "registry.db"));
    cJSON_Delete(report.problems);
    free(path);
}
END_TEST

/* ---- gc -------------------------------------------------------------------------------------- */

static registry_report gc(double grace_s, int dry_run)
{
    registry_report report;
    sqz_error err;
    ck_assert_msg(registry_gc(reg, grace_s, dry_run, &report, &err) == SQZ_OK, "%s", err.text);
    cJSON_Delete(report.problems);
    return report;
}

START_TEST(gc_takes_only_what_is_dead)
{
    char kept[DIGEST_TEXT], artifact[DIGEST_TEXT], old[DIGEST_TEXT], young[DIGEST_TEXT];
    char cached[DIGEST_TEXT], stale[DIGEST_TEXT], key[SHA256_HEX];
    make_artifact("kept", 1, NULL, kept, artifact);
    put("old and loose", old);
    put("young and loose", young);
    put("named by an action in use", cached);
    put("named by a stale action", stale);
    cJSON *result = cJSON_CreateObject();
    memset(key, 'a', 64);
    key[64] = 0;
    cJSON_AddStringToObject(result, "object", cached);
    ck_assert_int_eq(action_put(reg, key, result, NULL), SQZ_OK);
    cJSON_ReplaceItemInObject(result, "object", cJSON_CreateString(stale));
    memset(key, 'b', 64);
    ck_assert_int_eq(action_put(reg, key, result, NULL), SQZ_OK);
    char *stale_action = path_format("%s/actions/bb/%s.json", dir, key);
    char *temp = object_temp(reg), *young_temp = object_temp(reg);
    ck_assert_int_eq(file_write(temp, "half", 4, NULL), SQZ_OK);
    ck_assert_int_eq(file_write(young_temp, "half", 4, NULL), SQZ_OK);
    age(stale_action, 20);
    age(temp, 20);
    const char *all[] = {kept, artifact, old, cached, stale};
    for (int i = 0; i < 5; i++) age_object(all[i], 20);

    registry_report dry = gc(14 * 86400, 1);
    ck_assert(has(old) && has(stale) && path_exists(temp) && path_exists(stale_action));
    registry_report wet = gc(14 * 86400, 0);
    ck_assert_int_eq(wet.removed, 4); /* old, stale, its action, the temporary */
    ck_assert_int_eq(dry.removed, wet.removed);
    ck_assert_int_eq(dry.removed_bytes, wet.removed_bytes);
    ck_assert(has(kept) && has(artifact) && has(young) && has(cached) && path_exists(young_temp));
    ck_assert(!has(old) && !has(stale) && !path_exists(temp) && !path_exists(stale_action));
    ck_assert_int_eq(files_in("trash"), 0);
    ck_assert_int_eq(gc(14 * 86400, 0).removed, 0);

    gc(0, 0); /* no grace: only artifacts keep things */
    ck_assert(has(kept) && has(artifact) && !has(young) && !has(cached));
    free(young_temp);
    free(temp);
    free(stale_action);
    cJSON_Delete(result);
}
END_TEST

/* A gc that was killed half-way left objects in trash/; the next one puts back what is alive. */
START_TEST(gc_after_a_killed_gc)
{
    char object[DIGEST_TEXT], artifact[DIGEST_TEXT];
    make_artifact("content", 1, NULL, object, artifact);
    char *trash = path_format("%s/trash", dir);
    ck_assert_int_eq(dir_make(trash, NULL), SQZ_OK);
    const char *both[] = {object, artifact};
    for (int i = 0; i < 2; i++) {
        age_object(both[i], 100);
        char *from = object_path(reg, both[i]), *to = path_format("%s/%s", trash, both[i] + 7);
        ck_assert_int_eq(rename(from, to), 0);
        free(from);
        free(to);
    }
    gc(86400, 0);
    ck_assert(has(object) && has(artifact));
    ck_assert_int_eq(object_verify(reg, object, NULL), SQZ_OK);
    free(trash);
}
END_TEST

typedef struct race {
    const char *dir;
    int rounds, lost;
} race;

static void *collector(void *arg)
{
    race *r = arg;
    registry *mine;
    if (registry_open(r->dir, &mine, NULL) != SQZ_OK) return NULL;
    for (int i = 0; i < r->rounds; i++) {
        registry_report report;
        if (registry_gc(mine, 3600, 0, &report, NULL) == SQZ_OK) cJSON_Delete(report.problems);
    }
    registry_close(mine);
    return NULL;
}

/* Writers keep storing an object that looks long unused while gc runs: after each put it must stay.
 */
START_TEST(gc_beside_writers)
{
    pthread_t id;
    race r = {dir, 200, 0};
    char digest[DIGEST_TEXT];
    put("contended", digest);
    ck_assert_int_eq(pthread_create(&id, NULL, collector, &r), 0);
    for (int i = 0; i < 300; i++) {
        char *path = object_path(reg, digest);
        struct timespec old[2] = {{1000, 0}, {1000, 0}};
        if (path) (void)utimensat(AT_FDCWD, path, old, 0);
        free(path);
        put("contended", digest);
        /* in trash/ for a moment at most */
        int there = 0;
        for (int k = 0; k < 2000 && !there; k++)
            if (!(there = has(digest))) usleep(500);
        r.lost += !there;
    }
    pthread_join(id, NULL);
    ck_assert_int_eq(r.lost, 0);
    ck_assert(has(digest));
}
END_TEST

START_TEST(default_folder)
{
    setenv("SQZ_REGISTRY", "/r", 1);
    char *a = registry_default_dir();
    unsetenv("SQZ_REGISTRY");
    setenv("XDG_DATA_HOME", "/x", 1);
    char *b = registry_default_dir();
    unsetenv("XDG_DATA_HOME");
    setenv("HOME", "/h", 1);
    char *c = registry_default_dir();
    ck_assert_str_eq(a, "/r");
    ck_assert_str_eq(b, "/x/sqz/registry");
    ck_assert_str_eq(c, "/h/.local/share/sqz/registry");
    free(a);
    free(b);
    free(c);
    sqz_error err;
    registry *r;
    ck_assert_int_eq(registry_open("/proc/nowhere", &r, &err), ERR_STORAGE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("registry");
    TCase *t = tcase_create("registry");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, known_digests);
    tcase_add_test(t, digest_form);
    tcase_add_test(t, reads_what_was_put);
    tcase_add_test(t, corruption_is_named_and_healed);
    tcase_add_test(t, checked_once);
    tcase_add_test(t, adopts);
    tcase_add_test(t, forgets_the_dead);
    tcase_add_test(t, adopts_from_another_file_system);
    tcase_add_test(t, many_writers);
    tcase_add_test(t, full_disk);
    tcase_add_test(t, actions);
    tcase_add_test(t, manifests);
    tcase_add_test(t, records);
    tcase_add_test(t, ambiguous_prefix);
    tcase_add_test(t, verifies);
    tcase_add_test(t, damaged_database);
    tcase_add_test(t, gc_takes_only_what_is_dead);
    tcase_add_test(t, gc_after_a_killed_gc);
    tcase_add_test(t, gc_beside_writers);
    tcase_add_test(t, default_folder);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
