/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The switch between stacks. The assembly saves what the ABI says a call preserves (integer
 * registers; on aarch64 also d8-d15; nobody here changes the floating-point environment), changes
 * the stack pointer and restores the same from the other stack. It hands over one pointer, the
 * context that was left, because ASan tells the bounds of the stack one comes from only after the
 * switch.
 *
 * A new stack is laid out as though it had switched away just before ctx_first, with fn and arg in
 * two preserved registers. Its outermost frame has a zero return address, where unwinders stop.
 *
 * Compile with -fcf-protection=none: a shadow stack would have to be switched too.
 * Sources: System V ABI AMD64 §3.2; AAPCS64 §6.1.
 */
#include "base/ctx.h"

#include <stdint.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define CTX_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CTX_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CTX_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CTX_TSAN 1
#endif
#endif

#ifdef CTX_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CTX_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(lo, hi) 0
#define VALGRIND_STACK_DEREGISTER(id)	((void)(id))
#endif

#define STACK_MIN_BYTES 4096
#define STACK_ALIGN	16

/* CTX_SWAPCONTEXT asks for the portable switch where there is an own one: for its test. */
#if defined(__x86_64__) && defined(__LP64__) && !defined(CTX_SWAPCONTEXT)
#define CTX_ASM 1
#elif defined(__aarch64__) && !defined(CTX_SWAPCONTEXT)
#define CTX_ASM 1
#else
#include <ucontext.h>
#endif

/* Runs on the new stack. */
_Noreturn void ctx_first_c(struct ctx *prev, void (*fn)(void *), void *arg)
	__attribute__((used, visibility("hidden")));

/* --- what the tools are told --- */

static void tools_init(struct ctx *c)
{
#ifdef CTX_ASAN
	__asan_unpoison_memory_region(c->lo, c->size); /* red zones of frames that never returned */
#endif
#ifdef CTX_TSAN
	c->san = __tsan_create_fiber(0);
#endif
	c->vg_id = VALGRIND_STACK_REGISTER(c->lo, (char *)c->lo + c->size);
}

static void tools_done(struct ctx *c)
{
#ifdef CTX_ASAN
	__asan_unpoison_memory_region(c->lo, c->size);
#endif
#ifdef CTX_TSAN
	__tsan_destroy_fiber(c->san);
#endif
	VALGRIND_STACK_DEREGISTER(c->vg_id);
}

/* save: where ASan keeps the fake stack of the context being left; NULL: left for good. */
static inline void tools_leave(void **save UNUSED, struct ctx *to UNUSED)
{
#ifdef CTX_ASAN
	__sanitizer_start_switch_fiber(save, to->lo, to->size);
#endif
#ifdef CTX_TSAN
	__tsan_switch_to_fiber(to->san, 0);
#endif
}

static inline void tools_arrive(void *saved UNUSED, struct ctx *prev UNUSED)
{
#ifdef CTX_ASAN
	const void *lo;
	size_t size;

	__sanitizer_finish_switch_fiber(saved, &lo, &size);
	if (prev->is_thread) { /* ASan knows the bounds of a thread's own stack: learn them */
		memcpy(&prev->lo, &lo, sizeof lo);
		prev->size = size;
	}
#endif
}

/* --- the switch --- */

#ifdef CTX_ASM

/* Saves, stores sp in *save_sp, goes on at to_sp; returns the other side's `carry`. */
struct ctx *ctx_swap(void **save_sp, void *to_sp, struct ctx *carry)
	__attribute__((visibility("hidden")));
/* Where a new stack starts; not a C function. */
void ctx_first(void) __attribute__((visibility("hidden")));

#if defined(__x86_64__)

/* clang-format off */
__asm__(".text\n"
	".p2align 4\n"
	".globl ctx_swap\n"
	".hidden ctx_swap\n"
	".type ctx_swap, @function\n"
	"ctx_swap:\n"
	"	.cfi_startproc\n"
	"	push %rbp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %rbp, 0\n"
	"	push %rbx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %rbx, 0\n"
	"	push %r12\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %r12, 0\n"
	"	push %r13\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %r13, 0\n"
	"	push %r14\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %r14, 0\n"
	"	push %r15\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset %r15, 0\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	mov %rdx, %rax\n"
	"	pop %r15\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %r15\n"
	"	pop %r14\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %r14\n"
	"	pop %r13\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %r13\n"
	"	pop %r12\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %r12\n"
	"	pop %rbx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %rbx\n"
	"	pop %rbp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_restore %rbp\n"
	"	pop %rcx\n" /* not ret: the CPU's return predictor belongs to the other stack */
	"	.cfi_adjust_cfa_offset -8\n"
	"	.cfi_register %rip, %rcx\n"
	"	notrack jmp *%rcx\n" /* and the place it returns to has no endbr64 */
	"	.cfi_endproc\n"
	".size ctx_swap, . - ctx_swap\n"
	".p2align 4\n"
	".globl ctx_first\n"
	".hidden ctx_first\n"
	".type ctx_first, @function\n"
	"ctx_first:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined %rip\n"
	"	mov %rax, %rdi\n"
	"	mov %r12, %rsi\n"
	"	mov %r13, %rdx\n"
	"	xor %ebp, %ebp\n"
	"	call ctx_first_c\n"
	"	ud2\n"
	"	.cfi_endproc\n"
	".size ctx_first, . - ctx_first\n");
/* clang-format on */

/* In the order of the pops; the zero words are where a caller's frame would be. */
struct first_frame {
	uintptr_t r15, r14, arg_r13, fn_r12, rbx, rbp, pc;
	uintptr_t zero[3];
};

static struct first_frame first_frame_of(uintptr_t fn, uintptr_t arg)
{
	return (struct first_frame){ .fn_r12 = fn, .arg_r13 = arg, .pc = (uintptr_t)ctx_first };
}

/* After the pops sp is 16-byte aligned, as it must be before a call. */
#define FIRST_SP_BYTES (7 * sizeof(uintptr_t))

#else /* aarch64 */

/* clang-format off */
__asm__(".text\n"
	".p2align 4\n"
	".globl ctx_swap\n"
	".hidden ctx_swap\n"
	".type ctx_swap, %function\n"
	"ctx_swap:\n"
	"	.cfi_startproc\n"
	"	sub sp, sp, #160\n"
	"	.cfi_adjust_cfa_offset 160\n"
	"	stp x19, x20, [sp, #0]\n"
	"	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n"
	"	stp x29, x30, [sp, #80]\n"
	"	.cfi_rel_offset x29, 80\n"
	"	.cfi_rel_offset x30, 88\n"
	"	stp d8, d9, [sp, #96]\n"
	"	stp d10, d11, [sp, #112]\n"
	"	stp d12, d13, [sp, #128]\n"
	"	stp d14, d15, [sp, #144]\n"
	"	mov x9, sp\n"
	"	str x9, [x0]\n"
	"	mov sp, x1\n"
	"	mov x0, x2\n"
	"	ldp x19, x20, [sp, #0]\n"
	"	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n"
	"	ldp x29, x30, [sp, #80]\n"
	"	ldp d8, d9, [sp, #96]\n"
	"	ldp d10, d11, [sp, #112]\n"
	"	ldp d12, d13, [sp, #128]\n"
	"	ldp d14, d15, [sp, #144]\n"
	"	add sp, sp, #160\n"
	"	.cfi_adjust_cfa_offset -160\n"
	"	.cfi_restore x29\n"
	"	.cfi_restore x30\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size ctx_swap, . - ctx_swap\n"
	".p2align 4\n"
	".globl ctx_first\n"
	".hidden ctx_first\n"
	".type ctx_first, %function\n"
	"ctx_first:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined x30\n"
	"	mov x1, x19\n"
	"	mov x2, x20\n"
	"	mov x29, xzr\n"
	"	mov x30, xzr\n"
	"	bl ctx_first_c\n"
	"	brk #1\n"
	"	.cfi_endproc\n"
	".size ctx_first, . - ctx_first\n");
/* clang-format on */

/* In the order of the loads. */
struct first_frame {
	uintptr_t fn_x19, arg_x20, x21_to_x28[8], x29, pc_x30;
	double d8_to_d15[8];
};

static struct first_frame first_frame_of(uintptr_t fn, uintptr_t arg)
{
	return (struct first_frame){ .fn_x19 = fn, .arg_x20 = arg, .pc_x30 = (uintptr_t)ctx_first };
}

#define FIRST_SP_BYTES sizeof(struct first_frame)

#endif

static void machine_init(struct ctx *c, void (*fn)(void *), void *arg)
{
	struct first_frame frame = first_frame_of((uintptr_t)fn, (uintptr_t)arg);
	uintptr_t top = ((uintptr_t)c->lo + c->size) & ~(uintptr_t)(STACK_ALIGN - 1);
	/* such that sp is aligned once FIRST_SP_BYTES are popped */
	uintptr_t after = (top - (sizeof frame - FIRST_SP_BYTES)) & ~(uintptr_t)(STACK_ALIGN - 1);

	c->sp = (char *)c->lo + (after - FIRST_SP_BYTES - (uintptr_t)c->lo);
	memcpy(c->sp, &frame, sizeof frame);
}

static inline struct ctx *machine_swap(struct ctx *from, struct ctx *to)
{
	return ctx_swap(&from->sp, to->sp, from);
}

#else /* swapcontext */

/* Lies at the top of a new stack. `sp` carries the context that was left. */
struct first_frame {
	ucontext_t uc;
	struct ctx *c;
	void (*fn)(void *);
	void *arg;
};

/* makecontext() passes ints: the frame's address comes in two halves. */
static void first(unsigned hi, unsigned lo)
{
	uintptr_t address = (uintptr_t)((uint64_t)hi << 32 | lo);
	struct first_frame *frame = (struct first_frame *)address;

	ctx_first_c(frame->c->sp, frame->fn, frame->arg);
}

static void machine_init(struct ctx *c, void (*fn)(void *), void *arg)
{
	uintptr_t top = ((uintptr_t)c->lo + c->size - sizeof(struct first_frame)) & ~(uintptr_t)(STACK_ALIGN - 1);
	size_t room = top - (uintptr_t)c->lo;
	struct first_frame *frame = (struct first_frame *)(void *)((char *)c->lo + room);
	uint64_t address = (uintptr_t)frame;

	*frame = (struct first_frame){ .c = c, .fn = fn, .arg = arg };
	getcontext(&frame->uc);
	frame->uc.uc_stack.ss_sp = c->lo;
	frame->uc.uc_stack.ss_size = room;
	makecontext(&frame->uc, (void (*)(void))first, 2, (unsigned)(address >> 32),
		    (unsigned)address);
	c->uc = &frame->uc;
}

static inline struct ctx *machine_swap(struct ctx *from, struct ctx *to)
{
	ucontext_t here; /* on the stack that is left, where it stays until the return */

	from->uc = &here;
	to->sp = from;
	swapcontext(&here, to->uc);
	return from->sp;
}

#endif

/* --- the interface --- */

_Noreturn void ctx_first_c(struct ctx *prev, void (*fn)(void *), void *arg)
{
	tools_arrive(NULL, prev);
	fn(arg);
	assert_failed("a context's function returned", __FILE__, __LINE__);
}

enum err ctx_init(struct ctx *c, void *lo, size_t size, void (*fn)(void *arg), void *arg)
{
	if (size < STACK_MIN_BYTES)
		return ERR_LIMIT;
	*c = (struct ctx){ .lo = lo, .size = size };
	tools_init(c);
	machine_init(c, fn, arg);
	return ERR_NONE;
}

void ctx_init_thread(struct ctx *c)
{
	*c = (struct ctx){ .is_thread = true };
#ifdef CTX_TSAN
	c->san = __tsan_get_current_fiber();
#endif
}

void ctx_done(struct ctx *c)
{
	if (c->lo && !c->is_thread)
		tools_done(c);
	*c = (struct ctx){ 0 };
}

void ctx_switch(struct ctx *from, struct ctx *to)
{
	tools_leave(&from->san, to);

	struct ctx *prev = machine_swap(from, to);

	tools_arrive(from->san, prev);
}

_Noreturn void ctx_switch_dying(struct ctx *from, struct ctx *to)
{
	tools_leave(NULL, to);
	machine_swap(from, to);
	__builtin_unreachable();
}
