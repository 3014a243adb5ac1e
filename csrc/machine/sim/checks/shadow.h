// What the checked build knows of each 32-bit word of a block's shared memory: who wrote each half last, who
// has read it since, whether an asynchronous copy into it or out of it is still under way, and whether it is
// part of an mbarrier. The FastTrack algorithm (Flanagan, Freund, PLDI 2009): the last write is one epoch,
// the reads since are a few epochs, and a full vector only where many threads read.
#pragma once

#include <cstdint>
#include <vector>

#include "checks/clocks.h"
#include "checks/sites.h"

namespace rk::sim {

// Through which proxy memory is reached (PTX ISA 8.6): bulk copies and wgmma go through the async one.
enum class Proxy : uint8_t { generic, async };

// What an access ran into.
struct Conflict {
  enum Kind : uint8_t {
    none,
    uninitialised,
    unfinished_copy,  // into the word
    unfinished_read,  // by a copy out of the word, or by a wgmma
    unordered_write,
    unfenced_write,  // ordered, but no proxy fence stands between
    unordered_read,
    mbarrier
  };
  Kind kind = none;
  uint32_t address = 0;  // of the word
  uint32_t thread = 0;   // the other one, or an agent
  SiteId site = 0;       // of the other access

  explicit operator bool() const { return kind != none; }
};

// Who accesses, and how.
struct Accessor {
  uint32_t thread;
  SiteId site;
  Proxy proxy = Proxy::generic;
};

class Shadow {
 public:
  // A cluster begins: `bytes` of shared memory from address `base`, nothing written.
  void begin(uint32_t base, uint32_t bytes, uint32_t threads, const Clocks& clocks);

  // [address, address + bytes) is aligned to 4, or 2 bytes at an even address, and in bounds. With races =
  // false only uninitialised reads and mbarriers are told.
  Conflict read(const Accessor& by, uint32_t address, uint32_t bytes, bool races);
  Conflict write(const Accessor& by, uint32_t address, uint32_t bytes, bool races);

  // An asynchronous copy into shared memory: nobody may touch its destination between its issue and the wait
  // for its end, after which `by` has written it at `clock`.
  Conflict begin_copy(const Accessor& by, uint32_t address, uint32_t bytes, bool races);
  void end_copy(uint32_t thread, uint32_t address, uint32_t bytes, uint32_t by, uint32_t clock, SiteId site);

  // One out of shared memory: nobody may write its source in between.
  Conflict begin_read(const Accessor& by, uint32_t address, uint32_t bytes, bool races);
  void end_read(const Accessor& by, uint32_t address, uint32_t bytes);

  // The words become those of an mbarrier, which is touched through mbarrier instructions alone; or cease to
  // be.
  Conflict begin_mbarrier(const Accessor& by, uint32_t address, uint32_t bytes, bool races);
  void end_mbarrier(uint32_t address, uint32_t bytes);

  // Reads without leaving a trace, for those whose readers are kept elsewhere.
  Conflict inspect(const Accessor& by, uint32_t address, uint32_t bytes, bool races) const;

 private:
  // thread and clock of an access; 0 is none, since clocks start at 1. `halves` are the 16-bit halves it
  // touched.
  struct Epoch {
    uint32_t clock = 0;
    uint16_t thread = 0;
    SiteId site = 0;
  };
  struct Read {
    Epoch epoch;
    uint32_t halves = 0;
  };
  static constexpr uint32_t kUnfinished =
      0xffffffffu;                                    // the clock of an access that nothing is ordered after
  static constexpr uint32_t kMbarrier = 0xfffffffeu;  // of a write that made the word part of an mbarrier
  static constexpr int kReads = 4;
  struct Word {
    Epoch write[2];
    Read read[kReads];
    uint32_t many = 0;  // index + 1 into many_
  };
  // More readers than kReads: the last read of each thread, by half.
  struct Many {
    std::vector<Epoch> last[2];
  };

  static uint32_t halves_of(uint32_t address, uint32_t bytes) {
    return bytes >= 4 ? 3 : address % 4 == 0 ? 1 : 2;
  }
  Epoch epoch(const Accessor& by) const {
    return {clocks_->now(by.thread), static_cast<uint16_t>(by.thread), by.site};
  }
  bool ordered(const Epoch& epoch, uint32_t thread) const {
    return epoch.clock < kMbarrier && clocks_->before(epoch.thread, epoch.clock, thread);
  }
  Conflict against_writes(const Word& word, uint32_t halves, const Accessor& by, bool races) const;
  Conflict against_reads(const Word& word, uint32_t halves, uint32_t thread) const;
  void add_reader(Word& word, uint32_t halves, const Epoch& epoch);
  void forget_readers(Word& word, uint32_t halves);
  Conflict set_write(const Accessor& by, uint32_t address, uint32_t bytes, const Epoch& epoch, bool races);
  Conflict set_read(const Accessor& by, uint32_t address, uint32_t bytes, const Epoch& epoch, bool races);

  uint32_t base_ = 0;
  uint32_t threads_ = 0;
  const Clocks* clocks_ = nullptr;
  std::vector<Word> words_;
  std::vector<Many> many_;
};

}  // namespace rk::sim
