// median.cpp - a method written in C++17: rounding to nearest with a scale from the median
// magnitude.
//
// The median does not see outliers at all: the grid ends at `reach` medians, and weights beyond are
// clipped.  Shows what a C++ author needs: the headers compile as C++17, only C crosses the border,
// no exception may leave a function that the host calls.
#include <sqz/help.h>
#include <sqz/sqz.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#define MEDIAN_PARAMS(P)                                                                           \
    P(SQZ_INT, bits, 4, 2, 8, "2|3|4|8", SQZ_SEARCH, "bits per weight")                            \
    P(SQZ_INT, group_size, 64, 8, 4096, NULL, SQZ_SEARCH, "input features that share a scale")     \
    P(SQZ_REAL, reach, 3.5, 1, 20, NULL, SQZ_SEARCH, "the grid ends at this many medians")
SQZ_CALL(median_linear, MEDIAN_PARAMS);

namespace
{

// Nearest IEEE half among the normal ones.
float half_round(float x)
{
    int e;
    if (!(x > 0x1p-14f)) return 0x1p-14f;
    if (x >= 65504.0f) return 65504.0f;
    float m = std::frexp(x, &e);
    return std::ldexp(std::rint(m * 2048.0f) / 2048.0f, e);
}

float median(const float *w, std::int64_t n, std::vector<float> &magnitude)
{
    magnitude.assign(w, w + n);
    for (float &x : magnitude) x = std::fabs(x);
    auto middle = magnitude.begin() + n / 2;
    std::nth_element(magnitude.begin(), middle, magnitude.end());
    return *middle;
}

sqz_status convert(const sqz_host *host, const sqz_linear *l, int bits, std::int64_t group,
                   double reach)
{
    const std::int64_t groups = (l->cols + group - 1) / group;
    const int zero = 1 << (bits - 1), top = 2 * zero - 1;
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(l->rows * l->cols));
    std::vector<std::uint8_t> zeros(static_cast<std::size_t>(l->rows * groups),
                                    static_cast<std::uint8_t>(zero));
    std::vector<float> scales(zeros.size()), magnitude;
    for (std::int64_t i = 0; i < l->rows * groups; i++) {
        const std::int64_t row = i / groups, first = i % groups * group;
        const std::int64_t n = std::min(group, l->cols - first);
        const float *w = l->weight + row * l->cols + first;
        if (i % groups == 0 && host->tick(host, double(row) / double(l->rows), "median"))
            return SQZ_E_CANCELLED;
        if (!std::all_of(w, w + n, [](float x) { return std::isfinite(x); }))
            return sqz_failf(host, SQZ_E_NUMERIC, "median: %s holds NaN or infinite weights",
                             l->module);
        float end = float(reach) * median(w, n, magnitude);
        const float most = *std::max_element(magnitude.begin(), magnitude.end());
        if (end == 0 || end > most) end = most; // more than half zeros, or no outliers
        const float scale = half_round(end / float(std::max(1, zero - 1)));
        scales[static_cast<std::size_t>(i)] = scale;
        for (std::int64_t k = 0; k < n; k++) {
            float q = std::rint(w[k] / scale) + float(zero);
            codes[static_cast<std::size_t>(row * l->cols + first + k)] =
                static_cast<std::uint8_t>(std::clamp(q, 0.0f, float(top)));
        }
    }
    return l->set_affine(l, host, bits, group, 1, codes.data(), scales.data(), zeros.data());
}

} // namespace

static sqz_status median_linear(const sqz_host *host, void *, void *subject, std::int64_t bits,
                                std::int64_t group_size, double reach)
{
    const auto *l = static_cast<const sqz_linear *>(subject);
    try {
        return convert(host, l, int(bits), std::min(group_size, l->cols), reach);
    } catch (const std::bad_alloc &) {
        return sqz_failf(host, SQZ_E_NOMEM, "median: no memory for %s", l->module);
    }
}

static const sqz_method_steps steps = {sizeof steps, SQZ_PER_LINEAR, 0, 0, SQZ_FORM_INT_AFFINE};
static const void *extension(const char *id)
{
    return std::strcmp(id, SQZ_METHOD_STEPS_1) == 0 ? &steps : nullptr;
}
static const sqz_agent agent = {sizeof agent,
                                50,
                                "org.sqz-examples.median",
                                "method/1",
                                "Median scale (C++)",
                                "rounds to a grid of so many medians",
                                "1.0.0",
                                "Apache-2.0",
                                nullptr,
                                nullptr,
                                nullptr,
                                &median_linear_call,
                                extension};
static const sqz_plugin plugin = {
    sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 1, sizeof agent, 0, &agent};
SQZ_PLUGIN_STAMP(0);

extern "C" const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
