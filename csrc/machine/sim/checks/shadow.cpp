#include "checks/shadow.h"

#include <algorithm>

namespace rk::sim {

void Shadow::begin(uint32_t base, uint32_t bytes, uint32_t threads, const Clocks& clocks) {
  base_ = base;
  threads_ = threads;
  clocks_ = &clocks;
  words_.assign((bytes + 3) / 4, Word{});
  many_.clear();
}

Conflict Shadow::against_writes(const Word& word, uint32_t halves, uint32_t thread) const {
  for (uint32_t half = 0; half < 2; ++half) {
    const Epoch& write = word.write[half];
    if ((halves >> half & 1) == 0 || write.clock == 0 || ordered(write, thread)) continue;
    return {write.clock == kUnfinished ? Conflict::unfinished_copy : Conflict::unordered_write, 0,
            write.thread, write.site};
  }
  return {};
}

Conflict Shadow::against_reads(const Word& word, uint32_t halves, uint32_t thread) const {
  for (const Read& read : word.read) {
    if ((read.halves & halves) != 0 && !ordered(read.epoch, thread)) {
      return {Conflict::unordered_read, 0, read.epoch.thread, read.epoch.site};
    }
  }
  if (word.many == 0) return {};
  for (uint32_t half = 0; half < 2; ++half) {
    if ((halves >> half & 1) == 0) continue;
    for (const Epoch& epoch : many_[word.many - 1].last[half]) {
      if (epoch.clock != 0 && !ordered(epoch, thread)) {
        return {Conflict::unordered_read, 0, epoch.thread, epoch.site};
      }
    }
  }
  return {};
}

void Shadow::add_reader(Word& word, uint32_t halves, const Epoch& epoch) {
  // A read that is ordered before this one and touched no other half is implied by it.
  for (Read& read : word.read) {
    if ((read.halves & ~halves) == 0 && (read.halves == 0 || ordered(read.epoch, epoch.thread))) {
      read = {epoch, halves};
      return;
    }
  }
  if (word.many == 0) {
    many_.emplace_back();
    many_.back().last[0].resize(threads_);
    many_.back().last[1].resize(threads_);
    word.many = static_cast<uint32_t>(many_.size());
  }
  for (uint32_t half = 0; half < 2; ++half) {
    if (halves >> half & 1) many_[word.many - 1].last[half][epoch.thread] = epoch;
  }
}

// After a write that every earlier read is ordered before.
void Shadow::forget_readers(Word& word, uint32_t halves) {
  for (Read& read : word.read) read.halves &= ~halves;
  if (word.many == 0) return;
  for (uint32_t half = 0; half < 2; ++half) {
    auto& last = many_[word.many - 1].last[half];
    if (halves >> half & 1) std::fill(last.begin(), last.end(), Epoch{});
  }
}

Conflict Shadow::read(uint32_t thread, uint32_t address, uint32_t bytes, SiteId site, bool races) {
  const uint32_t halves = halves_of(address, bytes);
  const Epoch epoch = {clocks_->now(thread), static_cast<uint16_t>(thread), site};
  for (uint32_t at = address & ~3u; at < address + bytes; at += 4) {
    Word& word = words_[(at - base_) / 4];
    for (uint32_t half = 0; half < 2; ++half) {
      if ((halves >> half & 1) && word.write[half].clock == 0) return {Conflict::uninitialised, at, 0, 0};
    }
    if (!races) continue;
    if (Conflict conflict = against_writes(word, halves, thread)) {
      conflict.address = at;
      return conflict;
    }
    add_reader(word, halves, epoch);
  }
  return {};
}

Conflict Shadow::set_write(uint32_t thread, uint32_t address, uint32_t bytes, const Epoch& epoch,
                           bool races) {
  const uint32_t halves = halves_of(address, bytes);
  for (uint32_t at = address & ~3u; at < address + bytes; at += 4) {
    Word& word = words_[(at - base_) / 4];
    if (races) {
      Conflict conflict = against_writes(word, halves, thread);
      if (!conflict) conflict = against_reads(word, halves, thread);
      if (conflict) {
        conflict.address = at;
        return conflict;
      }
      forget_readers(word, halves);
    }
    for (uint32_t half = 0; half < 2; ++half) {
      if (halves >> half & 1) word.write[half] = epoch;
    }
  }
  return {};
}

Conflict Shadow::write(uint32_t thread, uint32_t address, uint32_t bytes, SiteId site, bool races) {
  return set_write(thread, address, bytes, {clocks_->now(thread), static_cast<uint16_t>(thread), site},
                   races);
}

Conflict Shadow::begin_copy(uint32_t thread, uint32_t address, uint32_t bytes, SiteId site, bool races) {
  return set_write(thread, address, bytes, {kUnfinished, static_cast<uint16_t>(thread), site}, races);
}

void Shadow::end_copy(uint32_t thread, uint32_t address, uint32_t bytes, SiteId site) {
  const Epoch epoch = {clocks_->now(thread), static_cast<uint16_t>(thread), site};
  for (uint32_t at = address; at < address + bytes; at += 4) {
    Word& word = words_[(at - base_) / 4];
    for (Epoch& write : word.write) {
      if (write.clock == kUnfinished && write.thread == thread) write = epoch;
    }
  }
}

}  // namespace rk::sim
