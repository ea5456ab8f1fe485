/* Neurons: what sums of weights do to membranes, and the spikes that come of it. */

#define EACH_PART _Pragma("GCC unroll 2") for (int p = 0; p < PARTS; p++)

/* The steps of a call for `n` neurons from channel `at` on: U = leak(V) + X, a spike where U >= theta, then V = 0,
 * else V = U. x: the sums of the first step, the next step's x_step further; the same for `out`, the spikes. */
inline_ void fire_leaking(int half, const struct ecc_call *call, const struct ecc_node *node, uint32_t at, uint32_t n,
                          int32_t *membrane, unsigned char *out, size_t out_step, const int32_t *x, size_t x_step)
{
    const int32_t *theta = ecc_numbers(call, node->theta) + at;
    int before = call->start > 0, after = call->start + call->count < call->plan->steps;
    uint32_t count = call->count, leak = (uint32_t)node->leak;
    for (uint32_t c = 0; c < n; c += FIRE) {
        wide_v v[PARTS], limit[PARTS];
        EACH_PART {
            limit[p] = ((const wide_v *)(theta + c))[p];
            v[p] = (wide_v){0};
            if (before)
                v[p] = ((const wide_v *)(membrane + c))[p];
        }
        const int32_t *current = x + c;
        unsigned char *to = out + c / 8;
        for (uint32_t t = 0; t < count; t++, current += x_step, to += out_step) {
            EACH_PART {
                uwide_v rest = (uwide_v)(v[p] >> 1);
                if (!half) /* floor(V leak / 2^15) without a 64-bit product */
                    rest = (uwide_v)(v[p] >> 15) * leak + ((((uwide_v)v[p] & 0x7fff) * leak) >> 15);
                v[p] = (wide_v)(rest + ((const uwide_v *)current)[p]);
            }
            spike(to, v, limit);
        }
        if (after)
            EACH_PART ((wide_v *)(membrane + c))[p] = v[p];
    }
}

inline_ void fire(const struct ecc_call *call, const struct ecc_node *node, uint64_t position, uint32_t at, uint32_t n,
                  const int32_t *x, size_t x_step)
{
    int32_t *membrane = ecc_numbers(call, node->membrane) + position * node->row + at;
    unsigned char *out = call->arena + node->to.bits + position * node->to.position_bytes + at / 8;
    if (node->leak == ECC_LEAK_ONE / 2)
        fire_leaking(1, call, node, at, n, membrane, out, node->to.step_bytes, x, x_step);
    else
        fire_leaking(0, call, node, at, n, membrane, out, node->to.step_bytes, x, x_step);
}

/* What neurons that see no spikes make of a whole frame: found once, copied to wherever nothing fires. */
static void silence(const struct ecc_call *call, const struct ecc_node *node)
{
    unsigned char *out = call->arena + node->silent;
    memset(out, 0, node->to.position_bytes * call->count);
    fire_leaking(0, call, node, 0, node->row, NULL, out, node->to.position_bytes, ecc_numbers(call, node->bias), 0);
}

inline_ void copy_silence(const struct ecc_call *call, const struct ecc_node *node, uint64_t position, size_t count)
{
    size_t words = node->to.position_bytes / 8;
    const uint64_t *from = (const uint64_t *)(const void *)(call->arena + node->silent);
    for (uint32_t t = 0; t < call->count; t++, from += words) {
        uint64_t *to = (uint64_t *)(void *)(call->arena + node->to.bits + t * node->to.step_bytes) + position * words;
        for (size_t k = 0; k < words; k++)
            for (size_t p = 0; p < count; p++)
                to[p * words + k] = from[k];
    }
}
