/* Threads that share the rows of a layer. There is one team in a process, made when it is first needed, and grown; it
 * works for one call at a time, and a call that finds it at work goes alone. Rows do not depend on each other, so the
 * bits are those of one thread.
 *
 * A layer takes some ten microseconds, less than waking up does: members wait awake during a call and a little longer,
 * and the caller does the parts that nobody has begun.
 */
#define _POSIX_C_SOURCE 200809L

#include "events_plan.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

/* What glibc 2.34 moved into libc has a new version there; the old one runs on older systems, too. */
#if defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))
#if defined(__x86_64__)
#define AS_BEFORE(name) __asm__(".symver " #name "," #name "@GLIBC_2.2.5")
#else
#define AS_BEFORE(name) __asm__(".symver " #name "," #name "@GLIBC_2.17")
#endif
AS_BEFORE(pthread_create);
AS_BEFORE(pthread_detach);
AS_BEFORE(pthread_mutex_trylock);
AS_BEFORE(pthread_once);
AS_BEFORE(pthread_sigmask);
#endif

#define PATIENCE 1024 /* looks before a waiting thread lets others have its processor, or sleeps */

/* What there is to do: how many threads may take part in the layer, and the parts of it that nobody has begun. */
#define TICKET(threads, parts) ((threads) << 16 | (parts))
#define THREADS_OF(ticket) ((ticket) >> 16)
#define PARTS_OF(ticket) ((ticket)&0xffff)

static struct {
    pthread_mutex_t at_work; /* held by the call that the team works for */
    pthread_mutex_t lock;    /* of `wake` */
    pthread_cond_t wake;
    uint32_t members; /* without the caller */
    uint32_t threads; /* that share the call's layers, with the caller */
    const struct ecc_call *call;
    const struct ecc_node *node;
    int dense;
    atomic_uint open, asleep; /* threads of the call that is going on; members that would have to be woken */
    _Atomic uint32_t ticket;
    atomic_uint done; /* parts of the layer */
} team = {.at_work = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void pause_a_little(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Does a part of the layer, if there is one. What `team` says stays as it is until all parts are done. */
static int do_part(uint32_t thread)
{
    uint32_t ticket = atomic_load_explicit(&team.ticket, memory_order_acquire);
    do {
        if (PARTS_OF(ticket) == 0 || thread >= THREADS_OF(ticket))
            return 0;
    } while (!atomic_compare_exchange_weak_explicit(&team.ticket, &ticket, ticket - 1, memory_order_acquire,
                                                    memory_order_acquire));
    struct ecc_call call = *team.call;
    uint64_t height = team.node->to.height, parts = THREADS_OF(ticket), part = parts - PARTS_OF(ticket);
    call.thread = thread;
    ecc_kernel_of(call.plan->isa)->rows(&call, team.node, team.dense, (uint32_t)(height * part / parts),
                                        (uint32_t)(height * (part + 1) / parts));
    atomic_fetch_add_explicit(&team.done, 1, memory_order_release);
    return 1;
}

static void sleep_until_called(uint32_t thread)
{
    pthread_mutex_lock(&team.lock);
    atomic_fetch_add(&team.asleep, 1);
    while (atomic_load(&team.open) <= thread)
        pthread_cond_wait(&team.wake, &team.lock);
    atomic_fetch_sub(&team.asleep, 1);
    pthread_mutex_unlock(&team.lock);
}

static void *work(void *argument)
{
    uint32_t thread = (uint32_t)(uintptr_t)argument;
    for (uint32_t looks = 0;; looks++) {
        if (do_part(thread)) {
            looks = 0;
        } else if (looks < PATIENCE) {
            pause_a_little();
        } else {
            looks = 0;
            if (atomic_load(&team.open) > thread)
                sched_yield();
            else
                sleep_until_called(thread);
        }
    }
    return NULL;
}

/* A forked process has no members, and nobody holds its locks. */
static void forget(void)
{
    pthread_mutex_init(&team.at_work, NULL);
    pthread_mutex_init(&team.lock, NULL);
    pthread_cond_init(&team.wake, NULL);
    team.members = 0;
    atomic_store(&team.open, 0);
    atomic_store(&team.asleep, 0);
    atomic_store(&team.ticket, 0);
}

static void forget_in_children(void)
{
    pthread_atfork(NULL, NULL, forget);
}

static void hire(uint32_t members)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the threads of the program */
    while (team.members < members) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)(uintptr_t)(team.members + 1)) != 0)
            break;
        pthread_detach(thread);
        team.members++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

uint32_t ecc_team_gather(uint32_t threads)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, forget_in_children);
    if (pthread_mutex_trylock(&team.at_work) != 0)
        return 1;
    if (team.members + 1 < threads)
        hire(threads - 1);
    team.threads = team.members + 1 < threads ? team.members + 1 : threads;
    if (team.threads == 1) {
        pthread_mutex_unlock(&team.at_work);
        return 1;
    }
    atomic_store(&team.open, team.threads);
    if (atomic_load(&team.asleep)) {
        pthread_mutex_lock(&team.lock);
        pthread_cond_broadcast(&team.wake);
        pthread_mutex_unlock(&team.lock);
    }
    return team.threads;
}

void ecc_team_rows(const struct ecc_call *call, const struct ecc_node *node, int dense)
{
    team.call = call;
    team.node = node;
    team.dense = dense;
    atomic_store_explicit(&team.done, 0, memory_order_relaxed);
    atomic_store_explicit(&team.ticket, TICKET(team.threads, team.threads), memory_order_release);
    while (do_part(0))
        ;
    for (uint32_t looks = 1; atomic_load_explicit(&team.done, memory_order_acquire) < team.threads; looks++) {
        if (looks % PATIENCE == 0)
            sched_yield();
        pause_a_little();
    }
}

void ecc_team_dismiss(void)
{
    atomic_store(&team.open, 0);
    pthread_mutex_unlock(&team.at_work);
}
