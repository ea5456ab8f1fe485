/* Running a program that events_plan.c has laid out: spikes in and out, pools, and the kernel for everything else. */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */

#include "events_plan.h"

#include <string.h>
#include <time.h>

/* ---- instruction sets ---- */

const struct ecc_kernel *ecc_kernel_of(uint32_t isa)
{
#if defined(__x86_64__)
    if (isa == ECC_AVX512VNNI)
        return &ecc_kernel_avx512vnni;
    if (isa == ECC_AVX512)
        return &ecc_kernel_avx512;
#if ECC_HAS_AVXVNNI
    if (isa == ECC_AVXVNNI)
        return &ecc_kernel_avxvnni;
#endif
    if (isa == ECC_AVX2)
        return &ecc_kernel_avx2;
#endif
    (void)isa;
    return &ecc_kernel_baseline;
}

static int has(int isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (isa == ECC_AVX2)
        return avx2;
#if ECC_HAS_AVXVNNI
    if (isa == ECC_AVXVNNI)
        return avx2 && __builtin_cpu_supports("avxvnni");
#endif
    if (isa == ECC_AVX512)
        return avx512;
    if (isa == ECC_AVX512VNNI)
        return avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi2");
#endif
    return isa == ECC_BASELINE;
}

int ecc_events_isa(int wanted, int *found)
{
    int isa = wanted;
    if (wanted == 0) {
        for (isa = ECC_AVX512VNNI; !has(isa); isa--)
            ;
    } else if (!has(wanted)) {
        return ECC_ARGUMENT;
    }
    *found = isa;
    return ECC_OK;
}

/* ---- spikes as bytes ---- */

#define ONES 0x0101010101010101u

/* Bytes (step, channel, position) to bits: eight channels at eight positions are one 64-bit number. */
static void pack(const struct ecc_map *map, uint32_t count, const uint8_t *from, unsigned char *bits)
{
    size_t positions = (size_t)map->height * map->width, stride = map->position_bytes;
    for (uint32_t t = 0; t < count; t++, from += map->channels * positions, bits += map->step_bytes)
        for (uint32_t c = 0; c < map->channels; c += 8) {
            uint32_t channels = map->channels - c < 8 ? map->channels - c : 8;
            const uint8_t *planes = from + c * positions;
            size_t p = 0;
            for (; p + 8 <= positions; p += 8) {
                uint64_t all = 0;
                for (uint32_t k = 0; k < channels; k++) {
                    uint64_t plane;
                    memcpy(&plane, planes + k * positions + p, 8);
                    all |= (plane & ONES) << k;
                }
                for (size_t k = 0; k < 8; k++)
                    bits[(p + k) * stride + c / 8] = (unsigned char)(all >> 8 * k);
            }
            for (; p < positions; p++) {
                unsigned all = 0;
                for (uint32_t k = 0; k < channels; k++)
                    all |= (planes[k * positions + p] & 1u) << k;
                bits[p * stride + c / 8] = (unsigned char)all;
            }
        }
}

static void unpack(const struct ecc_map *map, uint32_t count, const unsigned char *bits, uint8_t *to)
{
    size_t positions = (size_t)map->height * map->width, stride = map->position_bytes;
    for (uint32_t t = 0; t < count; t++, to += map->channels * positions, bits += map->step_bytes)
        for (uint32_t c = 0; c < map->channels; c += 8) {
            uint32_t channels = map->channels - c < 8 ? map->channels - c : 8;
            uint8_t *planes = to + c * positions;
            size_t p = 0;
            for (; p + 8 <= positions; p += 8) {
                uint64_t all = 0;
                for (size_t k = 0; k < 8; k++)
                    all |= (uint64_t)bits[(p + k) * stride + c / 8] << 8 * k;
                for (uint32_t k = 0; k < channels; k++) {
                    uint64_t plane = all >> k & ONES;
                    memcpy(planes + k * positions + p, &plane, 8);
                }
            }
            for (; p < positions; p++)
                for (uint32_t k = 0; k < channels; k++)
                    planes[k * positions + p] = bits[p * stride + c / 8] >> k & 1;
        }
}

/* ---- pools ---- */

/* On spikes the maximum of a block is the OR of its words. */
static void pool_spikes(const struct ecc_call *call, const struct ecc_node *node)
{
    const struct ecc_map *from = &node->main.from, *to = &node->to;
    size_t size = node->main.stride, words = to->position_bytes / 8, line = from->width * words;
    for (uint32_t t = 0; t < call->count; t++) {
        const uint64_t *bits = (const uint64_t *)(const void *)(call->arena + from->bits + t * from->step_bytes);
        uint64_t *out = (uint64_t *)(void *)(call->arena + to->bits + t * to->step_bytes);
        for (size_t y = 0; y < to->height; y++, bits += size * line)
            for (size_t x = 0; x < to->width; x++)
                for (size_t w = 0; w < words; w++) {
                    const uint64_t *corner = bits + x * size * words + w;
                    uint64_t any = 0;
                    for (size_t i = 0; i < size; i++)
                        for (size_t k = 0; k < size; k++)
                            any |= corner[i * line + k * words];
                    *out++ = any;
                }
    }
}

static void pool_pixels(const struct ecc_call *call, const struct ecc_node *node)
{
    const struct ecc_map *from = &node->main.from, *to = &node->to;
    size_t size = node->main.stride, channels = to->channels;
    for (uint32_t t = 0; t < (call->still ? 1 : call->count); t++) {
        const uint8_t *frame = ecc_frame(call, node) + t * from->step_bytes;
        uint8_t *out = call->arena + to->bits + t * to->step_bytes;
        for (size_t y = 0; y < to->height; y++)
            for (size_t x = 0; x < to->width; x++)
                for (size_t c = 0; c < channels; c++) {
                    uint8_t most = 0;
                    for (size_t i = 0; i < size * size; i++) {
                        size_t at = (y * size + i / size) * from->width + x * size + i % size;
                        most = frame[at * channels + c] > most ? frame[at * channels + c] : most;
                    }
                    *out++ = most;
                }
    }
}

/* ---- a call ---- */

static uint64_t map_bytes(const struct ecc_map *map, uint32_t count)
{
    return (uint64_t)count * map->channels * map->height * map->width;
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* `spent`: NULL, or one number for each of `layers` layers. */
static int run(void *arena, size_t bytes, const uint8_t *input, size_t input_bytes, int start, int count, void *output,
               size_t output_bytes, uint64_t *spent, size_t layers)
{
    const struct ecc_plan *plan = arena;
    if ((uintptr_t)arena % 64 != 0 || bytes < sizeof *plan || plan->magic != ECC_PLAN_MAGIC || plan->bytes > bytes)
        return ECC_ARGUMENT;
    if (start < 0 || count < 1 || start > (int)plan->steps - count || (spent && layers != plan->nodes))
        return ECC_ARGUMENT;
    struct ecc_call call = {.arena = arena, .plan = plan, .input = input};
    call.start = (uint32_t)start;
    call.count = (uint32_t)count;
    const struct ecc_map *from = &plan->input;
    const struct ecc_node *last = plan->node + plan->nodes - 1;
    if (from->pixels) {
        call.still = input_bytes == from->step_bytes;
        if (!call.still && input_bytes != from->step_bytes * plan->steps)
            return ECC_ARGUMENT;
        if (!call.still)
            call.input += from->step_bytes * call.start;
    } else {
        if (input_bytes != map_bytes(from, call.count))
            return ECC_ARGUMENT;
        pack(from, call.count, input, call.arena + from->bits);
    }
    if (output_bytes != (last->op == ECC_READOUT ? last->outputs * (uint64_t)4 : map_bytes(&last->to, call.count)))
        return ECC_ARGUMENT;
    call.sums = output;
    const struct ecc_kernel *kernel = ecc_kernel_of(plan->isa);
    uint32_t threads = plan->threads > 1 ? ecc_team_gather(plan->threads) : 1;
    for (uint32_t i = 0; i < plan->nodes; i++) {
        const struct ecc_node *node = plan->node + i;
        uint64_t begin = spent ? nanoseconds() : 0;
        if (node->op == ECC_MAX_POOL)
            (node->main.from.pixels ? pool_pixels : pool_spikes)(&call, node);
        else if (node->op != ECC_AVERAGE_POOL) {
            int dense = kernel->prepare(&call, node);
            if (threads > 1 && node->to.height >= threads)
                ecc_team_rows(&call, node, dense);
            else
                kernel->rows(&call, node, dense, 0, node->to.height);
        }
        if (spent)
            spent[i] = nanoseconds() - begin;
    }
    if (threads > 1)
        ecc_team_dismiss();
    if (last->op != ECC_READOUT)
        unpack(&last->to, call.count, call.arena + last->to.bits, output);
    return ECC_OK;
}

int ecc_events_run(void *arena, size_t bytes, const uint8_t *input, size_t input_bytes, int start, int count,
                   void *output, size_t output_bytes)
{
    return run(arena, bytes, input, input_bytes, start, count, output, output_bytes, NULL, 0);
}

int ecc_events_profile(void *arena, size_t bytes, const uint8_t *input, size_t input_bytes, int start, int count,
                       void *output, size_t output_bytes, uint64_t *spent, size_t layers)
{
    if (!spent)
        return ECC_ARGUMENT;
    return run(arena, bytes, input, input_bytes, start, count, output, output_bytes, spent, layers);
}

int ecc_events_limit(int isa, const int8_t *weights, size_t bytes, uint32_t row, const uint32_t *events, size_t count,
                     uint32_t length, uint32_t rounds, int32_t *sums)
{
    int found;
    if (ecc_events_isa(isa, &found) != ECC_OK)
        return ECC_ARGUMENT;
    const struct ecc_kernel *kernel = ecc_kernel_of((uint32_t)found);
    if (row < 1 || row % (kernel->lanes < 16 ? 16 : kernel->lanes) || row > bytes || length < 1)
        return ECC_ARGUMENT;
    for (size_t i = 0; i < count; i++)
        if (events[i] > bytes - row)
            return ECC_ARGUMENT;
    memset(sums, 0, row * sizeof *sums);
    for (uint32_t k = 0; k < rounds; k++)
        for (size_t i = 0; i < count; i += length)
            kernel->add(weights, row, events + i, count - i < length ? count - i : length, sums);
    return ECC_OK;
}
