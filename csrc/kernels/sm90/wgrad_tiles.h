// The tile shapes of conv_wgrad on sm_90; what each costs and is for stands in the head of conv_wgrad.h.
#pragma once

namespace rk::sm90 {

// A block computes kM filters by kN columns: kGroupsM x kGroupsN warpgroups, each its share of both. kDepth:
// pixels a stage. kBlocks: 2 in a pair.
struct WgradTile128x384 {
  static constexpr char kName[] = "128x384";
  static constexpr int kM = 128, kN = 384, kDepth = 32, kStages = 7, kGroupsM = 2, kGroupsN = 1, kBlocks = 1;
};
struct WgradPair128x384 : WgradTile128x384 {
  static constexpr char kName[] = "128x384 pair";
  static constexpr int kBlocks = 2;
};
struct WgradTile128x256 {
  static constexpr char kName[] = "128x256";
  static constexpr int kM = 128, kN = 256, kDepth = 64, kStages = 4, kGroupsM = 2, kGroupsN = 1, kBlocks = 1;
};
struct WgradPair128x256 : WgradTile128x256 {
  static constexpr char kName[] = "128x256 pair";
  static constexpr int kBlocks = 2;
};
struct WgradTile128x192 {
  static constexpr char kName[] = "128x192";
  static constexpr int kM = 128, kN = 192, kDepth = 64, kStages = 5, kGroupsM = 2, kGroupsN = 1, kBlocks = 1;
};
struct WgradPair128x192 : WgradTile128x192 {
  static constexpr char kName[] = "128x192 pair";
  static constexpr int kBlocks = 2;
};
struct WgradTile256x128 {
  static constexpr char kName[] = "256x128";
  static constexpr int kM = 256, kN = 128, kDepth = 64, kStages = 4, kGroupsM = 2, kGroupsN = 1, kBlocks = 1;
};
struct WgradTile64x576 {
  static constexpr char kName[] = "64x576";
  static constexpr int kM = 64, kN = 576, kDepth = 32, kStages = 5, kGroupsM = 1, kGroupsN = 3, kBlocks = 1;
};
struct WgradTile64x256 {
  static constexpr char kName[] = "64x256";
  static constexpr int kM = 64, kN = 256, kDepth = 64, kStages = 5, kGroupsM = 1, kGroupsN = 2, kBlocks = 1;
};

}  // namespace rk::sm90
