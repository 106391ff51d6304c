#include "machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.h"

namespace sslkernels::emulation {
namespace {

constexpr unsigned kLanes = 32;
constexpr uint64_t kMostThreads = 1024;
constexpr size_t kStaticShared = 48 * 1024, kAllShared = 163 * 1024;  // what sm_80 has; later ones have more

enum class State { kReady, kWaiting, kReturned };

struct Wait {
  Kind kind;
  unsigned mask;
  Place place;
  uint64_t value;
  unsigned source;
};

void thread_main();

struct Thread {
  Fiber fiber{&thread_main};
  Position position;
  State state = State::kReady;
  Wait wait;
  uint64_t result = 0;
};

bool same_place(const Place& a, const Place& b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

bool meets(const Thread& a, const Thread& b) {
  return a.state == State::kWaiting && b.state == State::kWaiting && a.wait.kind == b.wait.kind &&
         a.wait.mask == b.wait.mask && same_place(a.wait.place, b.wait.place);
}

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::kBlockBarrier:
      return "__syncthreads";
    case Kind::kWarpBarrier:
      return "__syncwarp";
    case Kind::kShuffle:
      return "a shuffle";
    default:
      return "a ballot";
  }
}

std::string text_of(const dim3& at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

std::string text_of(const Wait& wait) {
  return std::string(name_of(wait.kind)) + " at " + wait.place.file + ":" + std::to_string(wait.place.line);
}

dim3 unravel(uint64_t index, const dim3& sizes) {
  return dim3(index % sizes.x, static_cast<unsigned>(index / sizes.x % sizes.y),
              static_cast<unsigned>(index / sizes.x / sizes.y));
}

uint64_t count(const dim3& sizes) { return uint64_t{sizes.x} * sizes.y * sizes.z; }

// A new order of blocks and threads at every launch (SSLKERNELS_EMULATION_SEED=n fixes it), the same in every
// process: results that depend on the order differ between two runs.
class Order {
 public:
  explicit Order(uint64_t seed) : state_(seed) {}

  std::vector<uint64_t> operator()(uint64_t n) {
    std::vector<uint64_t> order(n);
    std::iota(order.begin(), order.end(), uint64_t{0});
    for (uint64_t i = n; i > 1; --i) std::swap(order[i - 1], order[next() % i]);
    return order;
  }

 private:
  // splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  uint64_t state_;
};

uint64_t next_seed() {
  static thread_local uint64_t launches = 0;
  const char* fixed = std::getenv("SSLKERNELS_EMULATION_SEED");
  return fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : ++launches;
}

class SharedMemory {
 public:
  SharedMemory() = default;
  SharedMemory(const SharedMemory&) = delete;
  ~SharedMemory() { clear(); }

  // nullptr where the block would hold more than a GPU has.
  void* get(const void* key, size_t bytes, bool dynamic) {
    for (const Array& array : arrays_) {
      if (array.key == key) return array.memory;
    }
    (dynamic ? dynamic_ : static_) += bytes;
    if (static_ > kStaticShared || static_ + dynamic_ > kAllShared) return nullptr;
    const RaceBlindness blind;
    // Of its own malloc, so that AddressSanitizer sees its ends.
    void* memory = std::malloc(std::max<size_t>(bytes, 1));
    std::memset(memory, 0xff, bytes);
    arrays_.push_back({key, memory});
    return memory;
  }

  void clear() {
    const RaceBlindness blind;
    for (const Array& array : arrays_) std::free(array.memory);
    arrays_.clear();
    static_ = dynamic_ = 0;
  }

 private:
  struct Array {
    const void* key;
    void* memory;
  };
  std::vector<Array> arrays_;
  size_t static_ = 0, dynamic_ = 0;
};

// One launch.
class Machine {
 public:
  Machine(const Launch& launch, std::vector<std::unique_ptr<Thread>>& pool);
  ~Machine();
  void run();

  const Launch& launch() const { return launch_; }
  SharedMemory& shared() { return shared_; }
  [[noreturn]] void fail(const std::string& what);  // by the running thread, which never goes on

 private:
  void run_block(uint64_t block);
  bool complete_warps();
  bool complete_block();
  void complete(const std::vector<Thread*>& group);
  void pass_order(const std::vector<Thread*>& group);
  Thread* missing(const Thread& waiting) const;
  std::string stuck() const;

  const Launch& launch_;
  std::vector<std::unique_ptr<Thread>>& pool_;
  std::vector<Thread*> threads_;
  SharedMemory shared_;
  uint64_t seed_, blocks_run_ = 0;
  std::string failure_;
  RaceEdge begin_;
};

thread_local Machine* machine = nullptr;
thread_local Thread* current = nullptr;

// Fibers outlive a launch; one pool an OS thread.
thread_local std::vector<std::unique_ptr<Thread>> stacks;

void thread_main() {
  machine->launch().body(machine->launch().arguments);
  current->state = State::kReturned;
  current->fiber.finish();
}

void require(bool condition, const char* what, const dim3& given) {
  if (!condition) throw std::invalid_argument(std::string("launch: ") + what + ", got " + text_of(given));
}

Machine::Machine(const Launch& launch, std::vector<std::unique_ptr<Thread>>& pool)
    : launch_(launch), pool_(pool), seed_(next_seed()) {
  const dim3 &grid = launch.grid, &block = launch.block;
  require(count(grid) > 0 && grid.x < 1u << 31 && grid.y < 1u << 16 && grid.z < 1u << 16,
          "a grid has 1 to 2^31 - 1 blocks, at most 65535 in y and z", grid);
  require(count(block) > 0 && count(block) <= kMostThreads && block.z <= 64,
          "a block has 1 to 1024 threads, at most 64 in z", block);
  if (launch.dynamic_bytes > kAllShared) {
    throw std::invalid_argument("launch: more dynamic shared memory than a block can have");
  }
}

// The caller comes after all that the kernel did, also where it failed.
Machine::~Machine() {
  RaceEdge end;
  for (const auto& thread : pool_) end.release(thread->fiber.race_context());
  end.acquire(nullptr);
}

void Machine::run() {
  const uint64_t threads = count(launch_.block);
  while (pool_.size() < 2 * threads) pool_.push_back(std::make_unique<Thread>());
  begin_.release(nullptr);
  for (const uint64_t block : Order(seed_)(count(launch_.grid))) run_block(block);
}

void Machine::run_block(uint64_t block) {
  // Two blocks in a row have different fibers, which are different threads to the race check.
  const uint64_t threads = count(launch_.block), first = blocks_run_++ % 2 * threads;
  threads_.clear();
  for (uint64_t i = 0; i < threads; ++i) {
    threads_.push_back(pool_[first + i].get());
    Thread& thread = *threads_[i];
    thread.fiber.rewind();
    thread.state = State::kReady;
    thread.position = {unravel(i, launch_.block), unravel(block, launch_.grid),
                       static_cast<unsigned>(i % kLanes), &launch_};
    begin_.acquire(thread.fiber.race_context());
  }
  const std::vector<uint64_t> order = Order(seed_ ^ block << 20)(threads_.size());
  const auto returned = [](const Thread* thread) { return thread->state == State::kReturned; };
  for (;;) {
    for (const uint64_t i : order) {
      if (threads_[i]->state != State::kReady) continue;
      current = threads_[i];
      current->fiber.resume();
      if (!failure_.empty()) throw std::runtime_error(failure_);
    }
    if (std::all_of(threads_.begin(), threads_.end(), returned)) break;
    if (!complete_warps() && !complete_block()) throw std::runtime_error(stuck());
  }
  shared_.clear();
}

// Every group of lanes whose whole mask has come to one place goes on.
bool Machine::complete_warps() {
  bool any = false;
  for (size_t first = 0; first < threads_.size(); first += kLanes) {
    for (size_t i = first; i < std::min<size_t>(first + kLanes, threads_.size()); ++i) {
      const Thread& thread = *threads_[i];
      if (thread.state != State::kWaiting || thread.wait.kind == Kind::kBlockBarrier) continue;
      if (missing(thread) != nullptr) continue;
      std::vector<Thread*> group;
      for (size_t lane = 0; lane < kLanes; ++lane) {
        if (thread.wait.mask >> lane & 1) group.push_back(threads_[first + lane]);
      }
      complete(group);
      any = true;
    }
  }
  return any;
}

bool Machine::complete_block() {
  const auto waiting = std::find_if(threads_.begin(), threads_.end(),
                                    [](const Thread* thread) { return thread->state == State::kWaiting; });
  if ((*waiting)->wait.kind != Kind::kBlockBarrier || missing(**waiting) != nullptr) return false;
  complete(threads_);
  return true;
}

// The first thread that `waiting` cannot go on without; nullptr: all are there.
Thread* Machine::missing(const Thread& waiting) const {
  const bool whole_block = waiting.wait.kind == Kind::kBlockBarrier;
  const dim3 &at = waiting.position.thread, &sizes = launch_.block;
  const size_t linear = at.x + size_t{sizes.x} * (at.y + size_t{sizes.y} * at.z);
  const size_t first = whole_block ? 0 : linear - waiting.position.lane;
  const size_t end = whole_block ? threads_.size() : first + kLanes;
  for (size_t i = first; i < end; ++i) {
    if (!whole_block && !(waiting.wait.mask >> (i - first) & 1)) continue;
    if (!meets(waiting, *threads_[i])) return threads_[i];
  }
  return nullptr;
}

void Machine::complete(const std::vector<Thread*>& group) {
  const Kind kind = group[0]->wait.kind;
  uint64_t combined = 0;
  for (const Thread* thread : group) {
    if (kind == Kind::kBlockBarrier) combined += thread->wait.value;
    if (kind == Kind::kBallot) combined |= thread->wait.value << thread->position.lane;
  }
  for (Thread* thread : group) {
    thread->result = combined;
    if (kind == Kind::kShuffle) {
      const auto source = std::find_if(group.begin(), group.end(), [&](const Thread* other) {
        return other->position.lane == thread->wait.source;
      });
      thread->result = source == group.end() ? ~uint64_t{0} : (*source)->wait.value;
    }
  }
  for (Thread* thread : group) thread->state = State::kReady;
  // Shuffles and ballots exchange registers; memory they do not order.
  if (kind == Kind::kBlockBarrier || kind == Kind::kWarpBarrier) pass_order(group);
}

// An edge of its own for each meeting, gone afterwards: one that is used again would also order what a fast
// thread does after this barrier with what a slow one does after it, and hide their races.
void Machine::pass_order(const std::vector<Thread*>& group) {
  RaceEdge edge;
  for (const Thread* thread : group) edge.release(thread->fiber.race_context());
  for (const Thread* thread : group) edge.acquire(thread->fiber.race_context());
}

// Follows who waits for whom to a thread that has returned, or round to one that has been met.
std::string Machine::stuck() const {
  const Thread* waiting = *std::find_if(threads_.begin(), threads_.end(), [](const Thread* thread) {
    return thread->state == State::kWaiting;
  });
  std::vector<const Thread*> met{waiting};
  const Thread* other = missing(*waiting);
  while (other->state == State::kWaiting && std::find(met.begin(), met.end(), other) == met.end()) {
    waiting = other;
    met.push_back(other);
    other = missing(*waiting);
  }
  const std::string what =
      other->state == State::kReturned ? "has returned" : "waits in " + text_of(other->wait);
  return "emulated kernel: thread " + text_of(waiting->position.thread) + " of block " +
         text_of(waiting->position.block) + " waits in " + text_of(waiting->wait) + " for thread " +
         text_of(other->position.thread) + ", which " + what +
         " (SSLKERNELS_EMULATION_SEED=" + std::to_string(seed_) + ")";
}

void Machine::fail(const std::string& what) {
  {
    const RaceBlindness blind;
    failure_ = "emulated kernel: thread " + text_of(current->position.thread) + " of block " +
               text_of(current->position.block) + ": " + what;
  }
  current->fiber.suspend();
  std::abort();  // never resumed
}

uint64_t wait_for(const Wait& wait) {
  Thread& self = *current;
  self.wait = wait;
  self.state = State::kWaiting;
  self.fiber.suspend();
  return self.result;
}

// What a test has taken away.
struct Removal {
  std::string file;
  int line = 0;
  int left = 0;  // times that a bound check is forgotten in a launch
} removal;

constexpr int kTimesForgotten = 30;

}  // namespace

const Position& here() { return current->position; }

void run(const Launch& launch) {
  if (machine != nullptr) throw std::runtime_error("launch: inside a kernel");
  const RaceBlindness blind;  // fibers are threads of their own: they see
  removal.left = kTimesForgotten;
  try {
    Machine one(launch, stacks);
    machine = &one;
    one.run();
  } catch (...) {
    machine = nullptr;
    stacks.clear();  // fibers that were abandoned half-way
    throw;
  }
  machine = nullptr;
}

unsigned meet_block(unsigned value, Place place) {
  return static_cast<unsigned>(wait_for({Kind::kBlockBarrier, 0, place, value, 0}));
}

uint64_t meet_warp(Kind kind, unsigned mask, uint64_t value, unsigned source, Place place) {
  const Wait wait{kind, mask, place, value, source};
  const dim3& at = current->position.thread;
  const dim3& sizes = machine->launch().block;
  const uint64_t warp_begin =
      (at.x + uint64_t{sizes.x} * (at.y + uint64_t{sizes.y} * at.z)) / kLanes * kLanes;
  const uint64_t lanes = std::min<uint64_t>(kLanes, count(sizes) - warp_begin);
  if (!(mask >> current->position.lane & 1)) machine->fail("is not in its own mask in " + text_of(wait));
  if (lanes < kLanes && mask >> lanes != 0) {
    machine->fail("the mask names a lane that the block does not have in " + text_of(wait));
  }
  return wait_for(wait);
}

void* shared_memory(const void* key, size_t bytes) {
  void* memory = machine->shared().get(key, bytes, false);
  if (memory == nullptr) machine->fail("more shared memory than a block has: 48 KiB static, 163 KiB in all");
  return memory;
}

void* dynamic_memory() {
  void* memory = machine->shared().get(nullptr, machine->launch().dynamic_bytes, true);
  if (memory == nullptr) machine->fail("more shared memory than a block has: 48 KiB static, 163 KiB in all");
  return memory;
}

bool removed(Place place) {
  if (removal.line != place.line) return false;
  const size_t length = std::strlen(place.file);
  return length >= removal.file.size() && removal.file == place.file + (length - removal.file.size());
}

bool forgotten(Place place) { return removed(place) && removal.left-- > 0; }

// Takes away what is at `line` of the file whose path ends so; line 0: nothing.
extern "C" __attribute__((visibility("default"))) void sslkernels_emulation_remove(const char* file,
                                                                                   int line) {
  removal.file = file;
  removal.line = line;
}

}  // namespace sslkernels::emulation
