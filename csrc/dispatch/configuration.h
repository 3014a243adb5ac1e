// Every way there is to compute a convolution: which kernels, with which tile. A configuration is known by
// its place in kConfigurations here, and by its name everywhere else.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "dispatch/conv_tile_choice.h"
#include "kernels/sm90/launchers.h"

namespace rk::dispatch {

enum class Kernels : uint8_t { sm80, sm90 };

struct Configuration {
  std::string_view name;
  Kernels kernels;
  uint8_t tile;           // of sm80::ConvTile or of sm90::ConvTile
  int64_t rows, columns;  // of the tile, in the GEMM; 0: conv_wgrad's, as conv_wgrad_choice.h plans it
  int64_t blocks_per_sm;  // resident at once on sm_90
  int64_t cluster;        // blocks that share what they load of the weights; 0: a block keeps them all

  constexpr bool plans_wgrad() const { return rows == 0; }
  constexpr bool keeps_weights() const { return cluster == 0; }
  constexpr sm80::ConvTile sm80_tile() const { return static_cast<sm80::ConvTile>(tile); }
  constexpr sm90::ConvTile sm90_tile() const { return static_cast<sm90::ConvTile>(tile); }
  constexpr const ConvTileTraits& traits() const { return kConvTiles[tile]; }  // sm80
};

namespace configurations {

constexpr Configuration portable(std::string_view name, sm80::ConvTile tile) {
  const ConvTileTraits& traits = kConvTiles[static_cast<size_t>(tile)];
  return {name, Kernels::sm80, static_cast<uint8_t>(tile), traits.m, traits.n, traits.blocks_per_sm, 1};
}

constexpr Configuration hopper(std::string_view name, sm90::ConvTile tile, int64_t rows, int64_t columns,
                               int64_t cluster = 2) {
  return {name, Kernels::sm90, static_cast<uint8_t>(tile), rows, columns, 1, cluster};
}

}  // namespace configurations

inline constexpr std::array<Configuration, 10> kConfigurations = {{
    configurations::portable("sm80/128x128", sm80::ConvTile::t128x128),
    configurations::portable("sm80/128x64", sm80::ConvTile::t128x64),
    configurations::portable("sm80/64x64", sm80::ConvTile::t64x64),
    configurations::hopper("sm90/128x256", sm90::ConvTile::t128x256, 128, 256),
    configurations::hopper("sm90/256x128", sm90::ConvTile::t256x128, 256, 128),
    configurations::hopper("sm90/128x128", sm90::ConvTile::t128x128, 128, 128),
    configurations::hopper("sm90/256x64", sm90::ConvTile::t256x64, 256, 64),
    configurations::hopper("sm90/128x64", sm90::ConvTile::t128x64, 128, 64),
    configurations::hopper("sm90/192x64", sm90::ConvTile::t192x64, 192, 64, 0),
    configurations::hopper("sm90/wgrad", {}, 0, 0, 1),
}};
static_assert(
    [] {
      for (size_t i = 0; i < kConvTiles.size(); ++i) {
        if (kConfigurations[i].kernels != Kernels::sm80 ||
            kConvTiles[i].tile != kConfigurations[i].sm80_tile())
          return false;
      }
      return true;
    }(),
    "the portable tiles come first, in their own order");

// The place of the configuration of this name, or kChoose.
constexpr int find_configuration(std::string_view name) {
  for (size_t i = 0; i < kConfigurations.size(); ++i) {
    if (kConfigurations[i].name == name) return static_cast<int>(i);
  }
  return kChoose;
}

constexpr int kPlannedWgrad = find_configuration("sm90/wgrad");
static_assert(kConfigurations[static_cast<size_t>(kPlannedWgrad)].plans_wgrad());

constexpr int portable_configuration(sm80::ConvTile tile) { return static_cast<int>(tile); }

}  // namespace rk::dispatch
