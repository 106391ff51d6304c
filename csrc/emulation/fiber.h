// A function on a stack of its own, which the scheduler resumes and which suspends itself.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace sslkernels::emulation {

// Where a context stands that does not run: 15 lines of assembly on x86-64, swapcontext elsewhere (which
// makes two system calls and takes ten times as long).
struct Suspended {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
};

class Fiber {
 public:
  explicit Fiber(void (*main)());  // `main` ends with finish()
  ~Fiber();
  Fiber(const Fiber&) = delete;

  void rewind();   // the next resume() begins main anew
  void resume();   // by the scheduler: returns when the fiber suspends or finishes
  void suspend();  // by the fiber itself
  void finish();   // by the fiber itself, at its end

  void* race_context() const { return race_context_; }

 private:
  static void enter();        // where a rewound fiber begins
  void arrive();              // on the fiber's stack, after a switch to it
  void leave(bool finished);  // to the scheduler

  void (*main_)();
  char* mapping_;
  char* stack_;
  Suspended own_, scheduler_;
  void *race_context_ = nullptr, *scheduler_race_context_ = nullptr;  // ThreadSanitizer's
  void *fake_stack_ = nullptr, *scheduler_fake_stack_ = nullptr;      // AddressSanitizer's
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_bytes_ = 0;
};

// For ThreadSanitizer: what contexts did before they release the edge lies before what contexts do after
// they acquire it. A context is a fiber's race_context(), or nullptr: the scheduler's own.
class RaceEdge {
 public:
  RaceEdge();
  ~RaceEdge();
  RaceEdge(const RaceEdge&) = delete;
  void release(void* context);
  void acquire(void* context);

 private:
  void as(void* context, void (*act)(void*));

  char* address_ = nullptr;
};

// While it lives, the running thread's memory accesses are no business of ThreadSanitizer's.
struct RaceBlindness {
  RaceBlindness();
  ~RaceBlindness();
};

}  // namespace sslkernels::emulation
