/* layout.c - the memory layout of every public struct, one line a field, to compare with sdk/abi/.
 *
 *     abi_layout              prints it
 *     abi_layout GOLDEN       compares; every difference is a broken ABI
 *     abi_layout OLD --older  compares with an earlier minor, to which later ones may append
 *
 * A struct whose fields are not all listed below shows as a hole larger than alignment explains,
 * and fails.  Nothing of the released file may change; a minor appends. */
#include <sqz/sqz.h>
#include <stdio.h>
#include <string.h>

typedef struct row {
    const char *of, *field; /* field NULL: the struct itself */
    size_t offset, size;
} row;

#define S(type) {#type, NULL, 0, sizeof(type)},
#define F(type, field) {#type, #field, offsetof(type, field), sizeof(((type *)0)->field)},

static const row rows[] = {
    /* clang-format off */
    /* sqz/plugin.h */
    S(sqz_param)
    F(sqz_param, struct_size)
    F(sqz_param, type)
    F(sqz_param, name)
    F(sqz_param, help)
    F(sqz_param, choices)
    F(sqz_param, def_text)
    F(sqz_param, def)
    F(sqz_param, lo)
    F(sqz_param, hi)
    F(sqz_param, flags)
    F(sqz_param, zero)
    S(sqz_call)
    F(sqz_call, struct_size)
    F(sqz_call, n_params)
    F(sqz_call, param_stride)
    F(sqz_call, zero)
    F(sqz_call, name)
    F(sqz_call, fn)
    F(sqz_call, params)
    S(sqz_host)
    F(sqz_host, struct_size)
    F(sqz_host, abi_minor)
    F(sqz_host, impl)
    F(sqz_host, version)
    F(sqz_host, log)
    F(sqz_host, fail)
    F(sqz_host, tick)
    F(sqz_host, service)
    S(sqz_agent)
    F(sqz_agent, struct_size)
    F(sqz_agent, rank)
    F(sqz_agent, id)
    F(sqz_agent, kind)
    F(sqz_agent, name)
    F(sqz_agent, summary)
    F(sqz_agent, version)
    F(sqz_agent, license)
    F(sqz_agent, tags)
    F(sqz_agent, open)
    F(sqz_agent, close)
    F(sqz_agent, run)
    F(sqz_agent, extension)
    S(sqz_plugin)
    F(sqz_plugin, struct_size)
    F(sqz_plugin, abi_major)
    F(sqz_plugin, abi_minor)
    F(sqz_plugin, needs_minor)
    F(sqz_plugin, zero16)
    F(sqz_plugin, n_agents)
    F(sqz_plugin, agent_stride)
    F(sqz_plugin, zero)
    F(sqz_plugin, agents)
    /* sqz/form.h */
    S(sqz_affine)
    F(sqz_affine, struct_size)
    F(sqz_affine, bits)
    F(sqz_affine, rows)
    F(sqz_affine, cols)
    F(sqz_affine, group_size)
    F(sqz_affine, symmetric)
    F(sqz_affine, zero)
    F(sqz_affine, codes)
    F(sqz_affine, scales)
    F(sqz_affine, zeros)
    S(sqz_weight)
    F(sqz_weight, struct_size)
    F(sqz_weight, dtype)
    F(sqz_weight, form)
    F(sqz_weight, rows)
    F(sqz_weight, cols)
    F(sqz_weight, data)
    F(sqz_weight, affine)
    /* sqz/services.h */
    S(sqz_pool)
    F(sqz_pool, struct_size)
    F(sqz_pool, zero)
    F(sqz_pool, threads)
    F(sqz_pool, parallel_for)
    S(sqz_linalg)
    F(sqz_linalg, struct_size)
    F(sqz_linalg, zero)
    F(sqz_linalg, gemm)
    F(sqz_linalg, inverse_factor)
    F(sqz_linalg, reverse_cholesky)
    F(sqz_linalg, gemm_rounded)
    S(sqz_rng)
    F(sqz_rng, struct_size)
    F(sqz_rng, zero)
    F(sqz_rng, bits)
    S(sqz_clock)
    F(sqz_clock, struct_size)
    F(sqz_clock, zero)
    F(sqz_clock, now_s)
    /* sqz/method.h */
    S(sqz_method_steps)
    F(sqz_method_steps, struct_size)
    F(sqz_method_steps, granularity)
    F(sqz_method_steps, statistics)
    F(sqz_method_steps, zero)
    F(sqz_method_steps, form)
    S(sqz_linear)
    F(sqz_linear, struct_size)
    F(sqz_linear, layer)
    F(sqz_linear, module)
    F(sqz_linear, role)
    F(sqz_linear, rows)
    F(sqz_linear, cols)
    F(sqz_linear, weight)
    F(sqz_linear, xtx)
    F(sqz_linear, tokens)
    F(sqz_linear, seed)
    F(sqz_linear, impl)
    F(sqz_linear, set_affine)
    F(sqz_linear, note)
    F(sqz_linear, xtx_id)
    /* sqz/eval.h */
    S(sqz_rows)
    F(sqz_rows, struct_size)
    F(sqz_rows, zero)
    F(sqz_rows, impl)
    F(sqz_rows, name)
    F(sqz_rows, n_rows)
    F(sqz_rows, text)
    F(sqz_rows, list_length)
    F(sqz_rows, list_text)
    F(sqz_rows, number)
    S(sqz_eval_match)
    F(sqz_eval_match, struct_size)
    F(sqz_eval_match, zero)
    F(sqz_eval_match, match)
    F(sqz_eval_match, primary)
    F(sqz_eval_match, higher_is_better)
    F(sqz_eval_match, zero2)
    S(sqz_loglik)
    F(sqz_loglik, context)
    F(sqz_loglik, continuation)
    F(sqz_loglik, n_context)
    F(sqz_loglik, n_continuation)
    F(sqz_loglik, logprob)
    F(sqz_loglik, greedy)
    F(sqz_loglik, zero)
    S(sqz_generation)
    F(sqz_generation, prompt)
    F(sqz_generation, n_prompt)
    F(sqz_generation, ids)
    F(sqz_generation, n_ids)
    F(sqz_generation, stopped)
    F(sqz_generation, zero)
    S(sqz_eval)
    F(sqz_eval, struct_size)
    F(sqz_eval, zero)
    F(sqz_eval, impl)
    F(sqz_eval, rows)
    F(sqz_eval, limit)
    F(sqz_eval, window)
    F(sqz_eval, context_size)
    F(sqz_eval, bos)
    F(sqz_eval, eos)
    F(sqz_eval, encode)
    F(sqz_eval, decode)
    F(sqz_eval, stream)
    F(sqz_eval, score_windows)
    F(sqz_eval, loglik)
    F(sqz_eval, generate)
    F(sqz_eval, metric)
    F(sqz_eval, item)
    F(sqz_eval, look)
    F(sqz_eval, enough)
    /* sqz/search.h */
    S(sqz_dim)
    F(sqz_dim, struct_size)
    F(sqz_dim, type)
    F(sqz_dim, name)
    F(sqz_dim, lo)
    F(sqz_dim, hi)
    F(sqz_dim, flags)
    F(sqz_dim, parent)
    F(sqz_dim, parent_value)
    F(sqz_dim, n_values)
    F(sqz_dim, values)
    S(sqz_space)
    F(sqz_space, struct_size)
    F(sqz_space, dim_stride)
    F(sqz_space, n_dims)
    F(sqz_space, dims)
    F(sqz_space, n_objectives)
    F(sqz_space, seed)
    S(sqz_search)
    F(sqz_search, struct_size)
    F(sqz_search, zero)
    F(sqz_search, space)
    F(sqz_search, ask)
    F(sqz_search, tell)
    /* sqz/format.h */
    S(sqz_tensor_view)
    F(sqz_tensor_view, struct_size)
    F(sqz_tensor_view, dtype)
    F(sqz_tensor_view, name)
    F(sqz_tensor_view, rank)
    F(sqz_tensor_view, zero)
    F(sqz_tensor_view, shape)
    F(sqz_tensor_view, data)
    F(sqz_tensor_view, bytes)
    S(sqz_export)
    F(sqz_export, struct_size)
    F(sqz_export, zero)
    F(sqz_export, impl)
    F(sqz_export, config_json)
    F(sqz_export, n_tensors)
    F(sqz_export, n_linears)
    F(sqz_export, tensor)
    F(sqz_export, linear)
    F(sqz_export, declare)
    F(sqz_export, write)
    F(sqz_export, text)
    S(sqz_import)
    F(sqz_import, struct_size)
    F(sqz_import, zero)
    F(sqz_import, impl)
    F(sqz_import, config_json)
    F(sqz_import, tensor)
    S(sqz_format)
    F(sqz_format, struct_size)
    F(sqz_format, zero)
    F(sqz_format, probe)
    F(sqz_format, check)
    F(sqz_format, export_model)
    F(sqz_format, import_linear)
    /* sqz/hardware.h */
    S(sqz_mem)
    F(sqz_mem, handle)
    F(sqz_mem, offset)
    S(sqz_device_info)
    F(sqz_device_info, struct_size)
    F(sqz_device_info, threads)
    F(sqz_device_info, name)
    F(sqz_device_info, isa)
    F(sqz_device_info, memory_bytes)
    F(sqz_device_info, fast_bf16)
    F(sqz_device_info, zero)
    S(sqz_op_linear)
    F(sqz_op_linear, struct_size)
    F(sqz_op_linear, compute)
    F(sqz_op_linear, packed)
    F(sqz_op_linear, tokens)
    F(sqz_op_linear, x)
    F(sqz_op_linear, y)
    F(sqz_op_linear, bias)
    F(sqz_op_linear, accumulate)
    F(sqz_op_linear, zero)
    S(sqz_op_norm)
    F(sqz_op_norm, struct_size)
    F(sqz_op_norm, zero)
    F(sqz_op_norm, rows)
    F(sqz_op_norm, n)
    F(sqz_op_norm, x)
    F(sqz_op_norm, y)
    F(sqz_op_norm, weight)
    F(sqz_op_norm, eps)
    S(sqz_op_rope)
    F(sqz_op_rope, struct_size)
    F(sqz_op_rope, zero)
    F(sqz_op_rope, tokens)
    F(sqz_op_rope, heads)
    F(sqz_op_rope, head_dim)
    F(sqz_op_rope, n)
    F(sqz_op_rope, x)
    F(sqz_op_rope, cosines)
    F(sqz_op_rope, sines)
    F(sqz_op_rope, position)
    S(sqz_op_attend)
    F(sqz_op_attend, struct_size)
    F(sqz_op_attend, layer)
    F(sqz_op_attend, sequences)
    F(sqz_op_attend, first)
    F(sqz_op_attend, slot)
    F(sqz_op_attend, past)
    F(sqz_op_attend, heads)
    F(sqz_op_attend, kv_heads)
    F(sqz_op_attend, head_dim)
    F(sqz_op_attend, window)
    F(sqz_op_attend, scale)
    F(sqz_op_attend, q)
    F(sqz_op_attend, k)
    F(sqz_op_attend, v)
    F(sqz_op_attend, y)
    F(sqz_op_attend, kv)
    F(sqz_op_attend, softcap)
    S(sqz_kv_desc)
    F(sqz_kv_desc, struct_size)
    F(sqz_kv_desc, layers)
    F(sqz_kv_desc, slots)
    F(sqz_kv_desc, capacity)
    F(sqz_kv_desc, kv_heads)
    F(sqz_kv_desc, head_dim)
    F(sqz_kv_desc, schema)
    S(sqz_op_kv_append)
    F(sqz_op_kv_append, struct_size)
    F(sqz_op_kv_append, layer)
    F(sqz_op_kv_append, sequences)
    F(sqz_op_kv_append, first)
    F(sqz_op_kv_append, slot)
    F(sqz_op_kv_append, past)
    F(sqz_op_kv_append, k)
    F(sqz_op_kv_append, v)
    F(sqz_op_kv_append, kv)
    S(sqz_op_score)
    F(sqz_op_score, struct_size)
    F(sqz_op_score, zero)
    F(sqz_op_score, rows)
    F(sqz_op_score, n)
    F(sqz_op_score, logits)
    F(sqz_op_score, target)
    F(sqz_op_score, logprob)
    F(sqz_op_score, argmax)
    F(sqz_op_score, logsumexp)
    S(sqz_op_layer_norm)
    F(sqz_op_layer_norm, struct_size)
    F(sqz_op_layer_norm, zero)
    F(sqz_op_layer_norm, rows)
    F(sqz_op_layer_norm, n)
    F(sqz_op_layer_norm, x)
    F(sqz_op_layer_norm, y)
    F(sqz_op_layer_norm, weight)
    F(sqz_op_layer_norm, bias)
    F(sqz_op_layer_norm, eps)
    S(sqz_hardware)
    F(sqz_hardware, struct_size)
    F(sqz_hardware, zero)
    F(sqz_hardware, describe)
    F(sqz_hardware, alloc)
    F(sqz_hardware, release)
    F(sqz_hardware, map)
    F(sqz_hardware, upload)
    F(sqz_hardware, download)
    F(sqz_hardware, sync)
    F(sqz_hardware, pack)
    F(sqz_hardware, packed_free)
    F(sqz_hardware, packed_bytes)
    F(sqz_hardware, linear)
    F(sqz_hardware, embed)
    F(sqz_hardware, norm)
    F(sqz_hardware, rope)
    F(sqz_hardware, attend)
    F(sqz_hardware, gate)
    F(sqz_hardware, add)
    F(sqz_hardware, score)
    F(sqz_hardware, kv_new)
    F(sqz_hardware, kv_free)
    F(sqz_hardware, kv_append)
    F(sqz_hardware, kv_copy)
    F(sqz_hardware, second_moment)
    F(sqz_hardware, gemm)
    F(sqz_hardware, inverse_factor)
    F(sqz_hardware, measure)
    F(sqz_hardware, reverse_cholesky)
    F(sqz_hardware, features)
    F(sqz_hardware, layer_norm)
    F(sqz_hardware, activate)
    F(sqz_hardware, scale)
    F(sqz_hardware, softcap)
    F(sqz_hardware, gather)
    F(sqz_hardware, scatter)
    F(sqz_hardware, gemm_rounded)
    F(sqz_hardware, begin)
    /* sqz/services.h, later */
    S(sqz_http_request)
    F(sqz_http_request, struct_size)
    F(sqz_http_request, flags)
    F(sqz_http_request, method)
    F(sqz_http_request, url)
    F(sqz_http_request, headers)
    F(sqz_http_request, body)
    F(sqz_http_request, body_bytes)
    F(sqz_http_request, body_file)
    F(sqz_http_request, user)
    F(sqz_http_request, password)
    F(sqz_http_request, ca_file)
    F(sqz_http_request, client_cert)
    F(sqz_http_request, connect_timeout_s)
    F(sqz_http_request, timeout_s)
    F(sqz_http_request, max_bytes)
    S(sqz_http_response)
    F(sqz_http_response, struct_size)
    F(sqz_http_response, status)
    F(sqz_http_response, body)
    F(sqz_http_response, body_bytes)
    F(sqz_http_response, retry_after_s)
    F(sqz_http_response, impl)
    S(sqz_http)
    F(sqz_http, struct_size)
    F(sqz_http, zero)
    F(sqz_http, request)
    F(sqz_http, release)
    /* sqz/tracker.h */
    S(sqz_tracking)
    F(sqz_tracking, struct_size)
    F(sqz_tracking, zero)
    F(sqz_tracking, impl)
    F(sqz_tracking, study)
    F(sqz_tracking, folder)
    F(sqz_tracking, state)
    F(sqz_tracking, save)
    F(sqz_tracking, later)
    S(sqz_track_event)
    F(sqz_track_event, struct_size)
    F(sqz_track_event, zero)
    F(sqz_track_event, seq)
    F(sqz_track_event, time_ms)
    F(sqz_track_event, kind)
    F(sqz_track_event, key)
    F(sqz_track_event, json)
    S(sqz_tracker)
    F(sqz_tracker, struct_size)
    F(sqz_tracker, zero)
    F(sqz_tracker, begin)
    F(sqz_tracker, event)
    F(sqz_tracker, flush)
    F(sqz_tracker, end)
    /* sqz/eval.h, added later */
    S(sqz_task)
    F(sqz_task, struct_size)
    F(sqz_task, zero)
    F(sqz_task, filters)
    F(sqz_task, filter_name)
    F(sqz_task, judge)
    F(sqz_task, perplexity_stderr)
    /* sqz/data.h */
    S(sqz_source)
    F(sqz_source, struct_size)
    F(sqz_source, zero)
    F(sqz_source, impl)
    F(sqz_source, name)
    F(sqz_source, path)
    F(sqz_source, data)
    F(sqz_source, bytes)
    S(sqz_row)
    F(sqz_row, struct_size)
    F(sqz_row, zero)
    F(sqz_row, impl)
    F(sqz_row, text)
    F(sqz_row, number)
    F(sqz_row, item)
    S(sqz_data)
    F(sqz_data, struct_size)
    F(sqz_data, flags)
    F(sqz_data, endings)
    F(sqz_data, example)
    F(sqz_data, example_bytes)
    F(sqz_data, probe)
    F(sqz_data, next)
    /* clang-format on */
};
enum { N_ROWS = sizeof rows / sizeof *rows };

static void row_text(const row *r, char *out, size_t bytes)
{
    if (r->field)
        snprintf(out, bytes, "%s %s %zu %zu", r->of, r->field, r->offset, r->size);
    else
        snprintf(out, bytes, "struct %s %zu", r->of, r->size);
}

/* Between listed fields there may be no room for an unlisted one. */
static int check_holes(void)
{
    int bad = 0;
    size_t end = 0;
    for (size_t i = 0; i < N_ROWS; i++) {
        const row *r = &rows[i];
        if (!r->field) {
            end = 0;
            continue;
        }
        if (r->offset != end && (r->offset < end || r->offset - end >= 8 || r->offset % 8 != 0)) {
            fprintf(stderr, "%s: between offset %zu and field %s at %zu lies an unlisted field\n",
                    r->of, end, r->field, r->offset);
            bad = 1;
        }
        end = r->offset + r->size;
        int last = i + 1 == N_ROWS || !rows[i + 1].field;
        size_t size = 0;
        for (size_t k = i; last && k > 0 && rows[k].field; k--) size = rows[k - 1].size;
        if (last && end != size) {
            fprintf(stderr, "%s: %zu bytes, but the listed fields end at %zu\n", r->of, size, end);
            bad = 1;
        }
    }
    return bad;
}

/* An older minor: its fields are where they were, its structs no smaller. */
static int compare_older(const char *golden)
{
    char line[256], of[128], field[128], own[256];
    size_t a, b;
    int bad = 0;
    FILE *f = fopen(golden, "r");
    if (!f) {
        fprintf(stderr, "%s: cannot be read\n", golden);
        return 1;
    }
    while (fgets(line, sizeof line, f)) {
        int is_struct = sscanf(line, "struct %127s %zu", of, &a) == 2, same = 0;
        if (!is_struct && sscanf(line, "%127s %127s %zu %zu", of, field, &a, &b) != 4) continue;
        if (*line == '#') continue;
        line[strcspn(line, "\n")] = 0;
        for (size_t i = 0; i < N_ROWS && !same; i++) {
            if (strcmp(rows[i].of, of) != 0 || is_struct != !rows[i].field) continue;
            row_text(&rows[i], own, sizeof own);
            same = is_struct ? rows[i].size >= a : strcmp(own, line) == 0;
        }
        if (!same) fprintf(stderr, "released: %s\nnow:      moved or gone\n", line);
        bad |= !same;
    }
    fclose(f);
    return bad;
}

static int compare(const char *golden)
{
    char line[256], own[256];
    size_t i = 0;
    int bad = 0;
    FILE *f = fopen(golden, "r");
    if (!f) {
        fprintf(stderr, "%s: cannot be read\n", golden);
        return 1;
    }
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (!*line || *line == '#') continue;
        *own = 0;
        if (i < N_ROWS) row_text(&rows[i++], own, sizeof own);
        if (strcmp(line, own) != 0) {
            fprintf(stderr, "released: %s\nnow:      %s\n", line, *own ? own : "(gone)");
            bad = 1;
        }
    }
    fclose(f);
    for (; i < N_ROWS; i++) {
        row_text(&rows[i], own, sizeof own);
        fprintf(stderr, "not in %s: %s\n", golden, own);
        bad = 1;
    }
    return bad;
}

int main(int argc, char **argv)
{
    char text[256];
    if (check_holes()) return 1;
    if (argc > 2 && strcmp(argv[2], "--older") == 0) return compare_older(argv[1]);
    if (argc > 1) return compare(argv[1]);
    for (size_t i = 0; i < N_ROWS; i++) {
        row_text(&rows[i], text, sizeof text);
        puts(text);
    }
    return 0;
}
