/* Running a program that events_plan.c has laid out: spikes in and out, pools, and the kernel for everything else. */
#include "events_plan.h"

#include <string.h>

/* ---- instruction sets ---- */

const struct ecc_kernel *ecc_kernel_of(uint32_t isa)
{
#if defined(__x86_64__)
    if (isa == ECC_AVX512)
        return &ecc_kernel_avx512;
    if (isa == ECC_AVX2)
        return &ecc_kernel_avx2;
#endif
    (void)isa;
    return &ecc_kernel_baseline;
}

int ecc_events_isa(int wanted, int *found)
{
    int best = ECC_BASELINE;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"))
        best = ECC_AVX2;
    if (best == ECC_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        best = ECC_AVX512;
#endif
    if (wanted < 0 || wanted > best)
        return ECC_ARGUMENT;
    *found = wanted ? wanted : best;
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
    size_t size = node->main.stride, words = to->position_bytes / 8;
    for (uint32_t t = 0; t < call->count; t++) {
        const uint64_t *bits = (const uint64_t *)(const void *)(call->arena + from->bits + t * from->step_bytes);
        uint64_t *out = (uint64_t *)(void *)(call->arena + to->bits + t * to->step_bytes);
        for (size_t y = 0; y < to->height; y++)
            for (size_t x = 0; x < to->width; x++)
                for (size_t w = 0; w < words; w++) {
                    uint64_t any = 0;
                    for (size_t i = 0; i < size * size; i++)
                        any |= bits[((y * size + i / size) * from->width + x * size + i % size) * words + w];
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

int ecc_events_run(void *arena, size_t bytes, const uint8_t *input, size_t input_bytes, int start, int count,
                   void *output, size_t output_bytes)
{
    const struct ecc_plan *plan = arena;
    if ((uintptr_t)arena % 64 != 0 || bytes < sizeof *plan || plan->magic != ECC_PLAN_MAGIC || plan->bytes > bytes)
        return ECC_ARGUMENT;
    if (start < 0 || count < 1 || start > (int)plan->steps - count)
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
    for (uint32_t i = 0; i < plan->nodes; i++) {
        const struct ecc_node *node = plan->node + i;
        int pixels = node->main.from.pixels != 0;
        if (node->op == ECC_MAX_POOL)
            (pixels ? pool_pixels : pool_spikes)(&call, node);
        else if (node->op != ECC_AVERAGE_POOL)
            (pixels ? kernel->pixels : kernel->layer)(&call, node);
    }
    if (last->op != ECC_READOUT)
        unpack(&last->to, call.count, call.arena + last->to.bits, output);
    return ECC_OK;
}
