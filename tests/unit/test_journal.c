/* The journal: cut at every byte, flipped at every bit, the intact prefix is recovered and
 * appending goes on; one writer; a full disk leaves no half record. */
#include "crc32c.h"
#include "journal.h"
#include "scratch.h"
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { RECORDS = 3 };
#define TEXT "line\nend, \"quoted\" \xC3\xA9"

static char *journal_path(void)
{
    return path_format("%s/journal.jsonl", scratch);
}

static cJSON *make_record(int i)
{
    cJSON *r = cJSON_CreateObject();
    cJSON_AddStringToObject(r, "type", i % 2 ? "tell" : "ask");
    cJSON_AddNumberToObject(r, "value", i * 0.1);
    cJSON_AddStringToObject(r, "text", TEXT);
    return r;
}

static void append(journal *j, int i)
{
    sqz_error err;
    ck_assert_msg(journal_append(j, make_record(i), &err) == SQZ_OK, "%s", err.text);
}

static void check_records(const journal *j, int64_t n)
{
    ck_assert_int_eq(journal_length(j), n);
    for (int64_t i = 0; i < n; i++) {
        const cJSON *r = journal_record(j, i);
        if (json_int(r, "seq", -1) != i || json_num(r, "value", -1) != (double)i * 0.1 ||
            strcmp(json_str(r, "text", ""), TEXT) || json_get(r, "crc"))
            ck_abort_msg("record %lld is wrong", (long long)i);
    }
    ck_assert_ptr_null(journal_record(j, n));
    ck_assert_ptr_null(journal_record(j, -1));
}

/* Writes RECORDS records; ends[i] is the file size after i of them.  *data is the file. */
static int64_t write_journal(const char *path, int64_t ends[RECORDS + 1], char **data)
{
    journal *j;
    int64_t bytes, dropped = -1;
    struct stat info;
    ck_assert_int_eq(journal_open(path, &j, &dropped, NULL), SQZ_OK);
    ck_assert_int_eq(dropped, 0);
    ends[0] = 0;
    for (int i = 0; i < RECORDS; i++) {
        append(j, i);
        ck_assert_int_eq(stat(path, &info), 0);
        ends[i + 1] = info.st_size;
    }
    check_records(j, RECORDS);
    journal_close(j);
    ck_assert_int_eq(file_read(path, 1 << 20, data, &bytes, NULL), SQZ_OK);
    return bytes;
}

static void put(const char *path, const char *data, int64_t bytes)
{
    FILE *f = fopen(path, "wb");
    ck_assert_uint_eq(fwrite(data, 1, (size_t)bytes, f), (size_t)bytes);
    fclose(f);
}

START_TEST(checksum)
{
    ck_assert_uint_eq(crc32c("123456789", 9), 0xE3069283); /* the standard's check value */
    ck_assert_uint_eq(crc32c("", 0), 0);
}
END_TEST

START_TEST(line_format)
{
    char *path = journal_path(), *data;
    int64_t bytes;
    journal *j;
    ck_assert_int_eq(journal_open(path, &j, NULL, NULL), SQZ_OK);
    cJSON *r = cJSON_CreateObject();
    cJSON_AddStringToObject(r, "type", "open");
    cJSON_AddNumberToObject(r, "b", 1);
    cJSON_AddStringToObject(r, "crc", "forged");
    cJSON_AddNumberToObject(r, "a", 2);
    ck_assert_int_eq(journal_append(j, r, NULL), SQZ_OK);
    journal_close(j);
    char expected[200];
    const char *canonical = "{\"a\":2,\"b\":1,\"seq\":0,\"type\":\"open\"}";
    snprintf(expected, sizeof expected,
             "{\"seq\":0,\"crc\":\"%08x\",\"type\":\"open\",\"b\":1,\"a\":2}\n",
             crc32c(canonical, strlen(canonical)));
    ck_assert_int_eq(file_read(path, 1000, &data, &bytes, NULL), SQZ_OK);
    ck_assert_str_eq(data, expected);
    free(data);
    free(path);
}
END_TEST

/* Opens the damaged file: n intact records, the rest dropped, nothing changed until one is
 * appended. */
static void recover(const char *path, int64_t size, int64_t n, const int64_t *ends)
{
    journal *j;
    int64_t dropped;
    struct stat info;
    ck_assert_int_eq(journal_open(path, &j, &dropped, NULL), SQZ_OK);
    check_records(j, n);
    ck_assert_int_eq(dropped, size - ends[n]);
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_int_eq(info.st_size, size);
    append(j, (int)n);
    journal_close(j);
    ck_assert_int_eq(journal_open(path, &j, &dropped, NULL), SQZ_OK);
    ck_assert_int_eq(dropped, 0);
    check_records(j, n + 1);
    journal_close(j);
}

START_TEST(cut_at_every_byte)
{
    char *path = journal_path(), *data;
    int64_t ends[RECORDS + 1], bytes = write_journal(path, ends, &data), n = 0;
    for (int64_t size = 0; size <= bytes; size++) {
        while (n < RECORDS && ends[n + 1] <= size) n++;
        put(path, data, size);
        recover(path, size, n, ends);
    }
    ck_assert_int_eq(n, RECORDS);
    free(data);
    free(path);
}
END_TEST

START_TEST(flip_every_bit)
{
    char *path = journal_path(), *data;
    int64_t ends[RECORDS + 1], bytes = write_journal(path, ends, &data), caught = 0;
    for (int64_t bit = 0; bit < bytes * 8; bit++) {
        int64_t hit = 0;
        journal *j;
        while (ends[hit + 1] <= bit / 8) hit++;
        data[bit / 8] ^= (char)(1 << bit % 8);
        put(path, data, bytes);
        data[bit / 8] ^= (char)(1 << bit % 8);
        ck_assert_int_eq(journal_read(path, &j, NULL), SQZ_OK);
        /* a changed 17th digit can still be the same number: then nothing is lost */
        if (journal_length(j) == RECORDS)
            check_records(j, RECORDS);
        else if (journal_length(j) != hit)
            ck_abort_msg("bit %lld: %lld records, expected %lld", (long long)bit,
                         (long long)journal_length(j), (long long)hit);
        else
            caught++;
        journal_close(j);
    }
    ck_assert_int_ge(caught, bytes * 8 - 64);
    /* and once with appending */
    data[ends[2] + 5] ^= 1;
    put(path, data, bytes);
    recover(path, bytes, 2, ends);
    free(data);
    free(path);
}
END_TEST

START_TEST(zeros_and_rubbish_at_the_end)
{
    char *path = journal_path(), *data, rubbish[5000];
    int64_t ends[RECORDS + 1], bytes = write_journal(path, ends, &data);
    for (int i = 0; i < 3; i++) {
        memset(rubbish, i == 0 ? 0 : i == 1 ? '\n' : '{', sizeof rubbish);
        char *longer = malloc((size_t)bytes + sizeof rubbish);
        memcpy(longer, data, (size_t)bytes);
        memcpy(longer + bytes, rubbish, sizeof rubbish);
        put(path, longer, bytes + (int64_t)sizeof rubbish);
        recover(path, bytes + (int64_t)sizeof rubbish, RECORDS, ends);
        free(longer);
    }
    free(data);
    free(path);
}
END_TEST

/* A record from elsewhere with a right checksum but the wrong place is not accepted. */
START_TEST(order)
{
    char *path = journal_path(), *data;
    int64_t ends[RECORDS + 1];
    journal *j;
    write_journal(path, ends, &data);
    char *swapped = path_format("%.*s%.*s%.*s", (int)ends[1], data, (int)(ends[3] - ends[2]),
                                data + ends[2], (int)(ends[2] - ends[1]), data + ends[1]);
    put(path, swapped, (int64_t)strlen(swapped));
    ck_assert_int_eq(journal_read(path, &j, NULL), SQZ_OK);
    check_records(j, 1);
    journal_close(j);
    free(swapped);
    free(data);
    free(path);
}
END_TEST

START_TEST(one_writer)
{
    char *path = journal_path();
    journal *a, *b;
    sqz_error err;
    ck_assert_int_eq(journal_open(path, &a, NULL, NULL), SQZ_OK);
    append(a, 0);
    ck_assert_int_eq(journal_open(path, &b, NULL, &err), ERR_CONFLICT);
    ck_assert_ptr_nonnull(strstr(err.text, "journal.jsonl"));
    ck_assert_int_eq(journal_read(path, &b, NULL), SQZ_OK); /* readers may look */
    check_records(b, 1);
    ck_assert_int_eq(journal_append(b, make_record(1), NULL), SQZ_E_INVALID);
    journal_close(b);
    append(a, 1);
    journal_close(a);
    ck_assert_int_eq(journal_open(path, &a, NULL, NULL), SQZ_OK);
    check_records(a, 2);
    journal_close(a);
    free(path);
}
END_TEST

START_TEST(bad_records)
{
    char *path = journal_path();
    journal *j;
    ck_assert_int_eq(journal_open(path, &j, NULL, NULL), SQZ_OK);
    ck_assert_int_eq(journal_append(j, cJSON_CreateObject(), NULL), SQZ_E_INVALID);
    ck_assert_int_eq(journal_append(j, cJSON_CreateArray(), NULL), SQZ_E_INVALID);
    cJSON *r = make_record(0);
    cJSON_AddNumberToObject(r, "value", 3); /* twice the same key */
    ck_assert_int_eq(journal_append(j, r, NULL), SQZ_E_INVALID);
    append(j, 0);
    check_records(j, 1);
    journal_close(j);
    free(path);
}
END_TEST

START_TEST(full_disk)
{
    char *path = journal_path(), *data;
    int64_t bytes;
    journal *j;
    sqz_error err;
    ck_assert_int_eq(journal_open(path, &j, NULL, NULL), SQZ_OK);
    append(j, 0);
    append(j, 1);
    ck_assert_int_eq(file_read(path, 1 << 20, &data, &bytes, NULL), SQZ_OK);
    struct rlimit before, limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)bytes + 20; /* room for a part of the next record */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(journal_append(j, make_record(2), &err), ERR_STORAGE);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    check_records(j, 2);
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_int_eq(info.st_size, bytes);
    append(j, 2);
    journal_close(j);
    ck_assert_int_eq(journal_read(path, &j, NULL), SQZ_OK);
    check_records(j, 3);
    journal_close(j);
    free(data);
    free(path);
}
END_TEST

START_TEST(absent)
{
    journal *j;
    sqz_error err;
    ck_assert_int_eq(journal_read("/nonexistent/j", &j, &err), SQZ_E_IO);
    ck_assert_int_eq(journal_open("/nonexistent/j", &j, NULL, &err), ERR_STORAGE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("journal");
    TCase *t = tcase_create("journal");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, scratch_make, scratch_remove);
    tcase_add_test(t, checksum);
    tcase_add_test(t, line_format);
    tcase_add_test(t, cut_at_every_byte);
    tcase_add_test(t, flip_every_bit);
    tcase_add_test(t, zeros_and_rubbish_at_the_end);
    tcase_add_test(t, order);
    tcase_add_test(t, one_writer);
    tcase_add_test(t, bad_records);
    tcase_add_test(t, full_disk);
    tcase_add_test(t, absent);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
