#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

// The sanitizers' interface. Weak: null in a plain build, so that one source serves all builds. This file and
// machine.cpp are never instrumented themselves.
extern "C" {
#define SSLK_WEAK __attribute__((weak))
SSLK_WEAK void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
SSLK_WEAK void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
SSLK_WEAK void __asan_unpoison_memory_region(const volatile void* address, size_t size);
SSLK_WEAK void* __tsan_get_current_fiber();
SSLK_WEAK void* __tsan_create_fiber(unsigned flags);
SSLK_WEAK void __tsan_destroy_fiber(void* fiber);
SSLK_WEAK void __tsan_switch_to_fiber(void* fiber, unsigned flags);
SSLK_WEAK void __tsan_acquire(void* address);
SSLK_WEAK void __tsan_release(void* address);
SSLK_WEAK void AnnotateIgnoreReadsBegin(const char* file, int line);
SSLK_WEAK void AnnotateIgnoreReadsEnd(const char* file, int line);
SSLK_WEAK void AnnotateIgnoreWritesBegin(const char* file, int line);
SSLK_WEAK void AnnotateIgnoreWritesEnd(const char* file, int line);
}

namespace sslkernels::emulation {
namespace {

constexpr size_t kStackBytes = 256 * 1024;  // virtual: only touched pages are taken
constexpr unsigned kWithoutEdge = 1;        // __tsan_switch_to_fiber_no_sync

thread_local Fiber* running = nullptr;

size_t page_bytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

#if defined(__x86_64__)

// Saves the registers that a function must preserve, changes the stack, restores the other's.
extern "C" void sslk_switch_stack(void** save, void* load);
asm(R"(
.text
.hidden sslk_switch_stack
.globl sslk_switch_stack
.type sslk_switch_stack, @function
sslk_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size sslk_switch_stack, .-sslk_switch_stack
)");

void switch_to(Suspended& from, Suspended& to) { sslk_switch_stack(&from.stack_pointer, to.stack_pointer); }

void prepare(Suspended& fiber, char* stack, void (*entry)()) {
  // Six zero registers, then the address for `ret`, then a return address of 0, where backtraces end.
  uint64_t* top = reinterpret_cast<uint64_t*>(stack + kStackBytes) - 8;
  for (int i = 0; i < 8; ++i) top[i] = 0;
  top[6] = reinterpret_cast<uint64_t>(entry);
  fiber.stack_pointer = top;
}

#else

void switch_to(Suspended& from, Suspended& to) { swapcontext(&from.context, &to.context); }

void prepare(Suspended& fiber, char* stack, void (*entry)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}

#endif

}  // namespace

Fiber::Fiber(void (*main)()) : main_(main) {
  // The page below the stack stays closed: an overflow ends the process there.
  const size_t guard = page_bytes();
  void* mapping = mmap(nullptr, guard + kStackBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<char*>(mapping);
  stack_ = mapping_ + guard;
  if (mprotect(stack_, kStackBytes, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  if (__tsan_create_fiber != nullptr) race_context_ = __tsan_create_fiber(0);
}

Fiber::~Fiber() {
  // The frames of a fiber that never finished are still marked.
  if (__asan_unpoison_memory_region != nullptr) __asan_unpoison_memory_region(stack_, kStackBytes);
  if (race_context_ != nullptr) __tsan_destroy_fiber(race_context_);
  munmap(mapping_, page_bytes() + kStackBytes);
}

void Fiber::rewind() {
  fake_stack_ = nullptr;
  prepare(own_, stack_, &Fiber::enter);
}

void Fiber::enter() {
  running->arrive();
  running->main_();
}

void Fiber::arrive() {
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(fake_stack_, &scheduler_stack_, &scheduler_stack_bytes_);
  }
}

void Fiber::resume() {
  running = this;
  if (__tsan_switch_to_fiber != nullptr) {
    scheduler_race_context_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(race_context_, kWithoutEdge);
  }
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(&scheduler_fake_stack_, stack_, kStackBytes);
  }
  switch_to(scheduler_, own_);
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(scheduler_fake_stack_, nullptr, nullptr);
  }
}

void Fiber::leave(bool finished) {
  if (__tsan_switch_to_fiber != nullptr) __tsan_switch_to_fiber(scheduler_race_context_, kWithoutEdge);
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(finished ? nullptr : &fake_stack_, scheduler_stack_,
                                   scheduler_stack_bytes_);
  }
  switch_to(own_, scheduler_);
}

void Fiber::suspend() {
  leave(false);
  arrive();
}

void Fiber::finish() { leave(true); }

RaceEdge::RaceEdge() {
  if (__tsan_release != nullptr) address_ = new char;
}

// Freed memory has no history: the next edge at this address begins anew.
RaceEdge::~RaceEdge() { delete address_; }

void RaceEdge::release(void* context) { as(context, __tsan_release); }

void RaceEdge::acquire(void* context) { as(context, __tsan_acquire); }

void RaceEdge::as(void* context, void (*act)(void*)) {
  if (address_ == nullptr) return;
  void* const self = __tsan_get_current_fiber();
  if (context != nullptr) __tsan_switch_to_fiber(context, kWithoutEdge);
  act(address_);
  if (context != nullptr) __tsan_switch_to_fiber(self, kWithoutEdge);
}

RaceBlindness::RaceBlindness() {
  if (AnnotateIgnoreReadsBegin == nullptr) return;
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}

RaceBlindness::~RaceBlindness() {
  if (AnnotateIgnoreReadsBegin == nullptr) return;
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}

}  // namespace sslkernels::emulation
