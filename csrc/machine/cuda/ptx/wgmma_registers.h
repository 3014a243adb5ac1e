// The register operands of wgmma with n columns: n / 2 accumulators, in the text of the instruction and in
// its constraints, and the numbers of the operands that follow. The assembler wants them spelled out; nothing
// else is in this file.
#pragma once

// clang-format off
#define RK_TEXT_8 "%0, %1, %2, %3"
#define RK_TEXT_16 RK_TEXT_8 ", " "%4, %5, %6, %7"
#define RK_TEXT_24 RK_TEXT_16 ", " "%8, %9, %10, %11"
#define RK_TEXT_32 RK_TEXT_24 ", " "%12, %13, %14, %15"
#define RK_TEXT_40 RK_TEXT_32 ", " "%16, %17, %18, %19"
#define RK_TEXT_48 RK_TEXT_40 ", " "%20, %21, %22, %23"
#define RK_TEXT_56 RK_TEXT_48 ", " "%24, %25, %26, %27"
#define RK_TEXT_64 RK_TEXT_56 ", " "%28, %29, %30, %31"
#define RK_TEXT_72 RK_TEXT_64 ", " "%32, %33, %34, %35"
#define RK_TEXT_80 RK_TEXT_72 ", " "%36, %37, %38, %39"
#define RK_TEXT_88 RK_TEXT_80 ", " "%40, %41, %42, %43"
#define RK_TEXT_96 RK_TEXT_88 ", " "%44, %45, %46, %47"
#define RK_TEXT_104 RK_TEXT_96 ", " "%48, %49, %50, %51"
#define RK_TEXT_112 RK_TEXT_104 ", " "%52, %53, %54, %55"
#define RK_TEXT_120 RK_TEXT_112 ", " "%56, %57, %58, %59"
#define RK_TEXT_128 RK_TEXT_120 ", " "%60, %61, %62, %63"
#define RK_TEXT_136 RK_TEXT_128 ", " "%64, %65, %66, %67"
#define RK_TEXT_144 RK_TEXT_136 ", " "%68, %69, %70, %71"
#define RK_TEXT_152 RK_TEXT_144 ", " "%72, %73, %74, %75"
#define RK_TEXT_160 RK_TEXT_152 ", " "%76, %77, %78, %79"
#define RK_TEXT_168 RK_TEXT_160 ", " "%80, %81, %82, %83"
#define RK_TEXT_176 RK_TEXT_168 ", " "%84, %85, %86, %87"
#define RK_TEXT_184 RK_TEXT_176 ", " "%88, %89, %90, %91"
#define RK_TEXT_192 RK_TEXT_184 ", " "%92, %93, %94, %95"
#define RK_TEXT_200 RK_TEXT_192 ", " "%96, %97, %98, %99"
#define RK_TEXT_208 RK_TEXT_200 ", " "%100, %101, %102, %103"
#define RK_TEXT_216 RK_TEXT_208 ", " "%104, %105, %106, %107"
#define RK_TEXT_224 RK_TEXT_216 ", " "%108, %109, %110, %111"
#define RK_TEXT_232 RK_TEXT_224 ", " "%112, %113, %114, %115"
#define RK_TEXT_240 RK_TEXT_232 ", " "%116, %117, %118, %119"
#define RK_TEXT_248 RK_TEXT_240 ", " "%120, %121, %122, %123"
#define RK_TEXT_256 RK_TEXT_248 ", " "%124, %125, %126, %127"
#define RK_REGISTERS_8 "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define RK_REGISTERS_16 RK_REGISTERS_8, "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
#define RK_REGISTERS_24 RK_REGISTERS_16, "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11])
#define RK_REGISTERS_32 RK_REGISTERS_24, "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define RK_REGISTERS_40 RK_REGISTERS_32, "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19])
#define RK_REGISTERS_48 RK_REGISTERS_40, "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23])
#define RK_REGISTERS_56 RK_REGISTERS_48, "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27])
#define RK_REGISTERS_64 RK_REGISTERS_56, "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define RK_REGISTERS_72 RK_REGISTERS_64, "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35])
#define RK_REGISTERS_80 RK_REGISTERS_72, "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39])
#define RK_REGISTERS_88 RK_REGISTERS_80, "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43])
#define RK_REGISTERS_96 RK_REGISTERS_88, "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])
#define RK_REGISTERS_104 RK_REGISTERS_96, "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51])
#define RK_REGISTERS_112 RK_REGISTERS_104, "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55])
#define RK_REGISTERS_120 RK_REGISTERS_112, "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59])
#define RK_REGISTERS_128 RK_REGISTERS_120, "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define RK_REGISTERS_136 RK_REGISTERS_128, "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67])
#define RK_REGISTERS_144 RK_REGISTERS_136, "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71])
#define RK_REGISTERS_152 RK_REGISTERS_144, "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75])
#define RK_REGISTERS_160 RK_REGISTERS_152, "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79])
#define RK_REGISTERS_168 RK_REGISTERS_160, "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83])
#define RK_REGISTERS_176 RK_REGISTERS_168, "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87])
#define RK_REGISTERS_184 RK_REGISTERS_176, "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91])
#define RK_REGISTERS_192 RK_REGISTERS_184, "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95])
#define RK_REGISTERS_200 RK_REGISTERS_192, "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99])
#define RK_REGISTERS_208 RK_REGISTERS_200, "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103])
#define RK_REGISTERS_216 RK_REGISTERS_208, "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107])
#define RK_REGISTERS_224 RK_REGISTERS_216, "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111])
#define RK_REGISTERS_232 RK_REGISTERS_224, "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115])
#define RK_REGISTERS_240 RK_REGISTERS_232, "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119])
#define RK_REGISTERS_248 RK_REGISTERS_240, "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123])
#define RK_REGISTERS_256 RK_REGISTERS_248, "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])

// RK_EACH_N(F): F(n, text of the accumulators, the seven operands after them) for every n.
#define RK_EACH_N(F) \
  F(8, RK_TEXT_8, "%4", "%5", "%6", "%7", "%8", "%9", "%10") \
  F(16, RK_TEXT_16, "%8", "%9", "%10", "%11", "%12", "%13", "%14") \
  F(24, RK_TEXT_24, "%12", "%13", "%14", "%15", "%16", "%17", "%18") \
  F(32, RK_TEXT_32, "%16", "%17", "%18", "%19", "%20", "%21", "%22") \
  F(40, RK_TEXT_40, "%20", "%21", "%22", "%23", "%24", "%25", "%26") \
  F(48, RK_TEXT_48, "%24", "%25", "%26", "%27", "%28", "%29", "%30") \
  F(56, RK_TEXT_56, "%28", "%29", "%30", "%31", "%32", "%33", "%34") \
  F(64, RK_TEXT_64, "%32", "%33", "%34", "%35", "%36", "%37", "%38") \
  F(72, RK_TEXT_72, "%36", "%37", "%38", "%39", "%40", "%41", "%42") \
  F(80, RK_TEXT_80, "%40", "%41", "%42", "%43", "%44", "%45", "%46") \
  F(88, RK_TEXT_88, "%44", "%45", "%46", "%47", "%48", "%49", "%50") \
  F(96, RK_TEXT_96, "%48", "%49", "%50", "%51", "%52", "%53", "%54") \
  F(104, RK_TEXT_104, "%52", "%53", "%54", "%55", "%56", "%57", "%58") \
  F(112, RK_TEXT_112, "%56", "%57", "%58", "%59", "%60", "%61", "%62") \
  F(120, RK_TEXT_120, "%60", "%61", "%62", "%63", "%64", "%65", "%66") \
  F(128, RK_TEXT_128, "%64", "%65", "%66", "%67", "%68", "%69", "%70") \
  F(136, RK_TEXT_136, "%68", "%69", "%70", "%71", "%72", "%73", "%74") \
  F(144, RK_TEXT_144, "%72", "%73", "%74", "%75", "%76", "%77", "%78") \
  F(152, RK_TEXT_152, "%76", "%77", "%78", "%79", "%80", "%81", "%82") \
  F(160, RK_TEXT_160, "%80", "%81", "%82", "%83", "%84", "%85", "%86") \
  F(168, RK_TEXT_168, "%84", "%85", "%86", "%87", "%88", "%89", "%90") \
  F(176, RK_TEXT_176, "%88", "%89", "%90", "%91", "%92", "%93", "%94") \
  F(184, RK_TEXT_184, "%92", "%93", "%94", "%95", "%96", "%97", "%98") \
  F(192, RK_TEXT_192, "%96", "%97", "%98", "%99", "%100", "%101", "%102") \
  F(200, RK_TEXT_200, "%100", "%101", "%102", "%103", "%104", "%105", "%106") \
  F(208, RK_TEXT_208, "%104", "%105", "%106", "%107", "%108", "%109", "%110") \
  F(216, RK_TEXT_216, "%108", "%109", "%110", "%111", "%112", "%113", "%114") \
  F(224, RK_TEXT_224, "%112", "%113", "%114", "%115", "%116", "%117", "%118") \
  F(232, RK_TEXT_232, "%116", "%117", "%118", "%119", "%120", "%121", "%122") \
  F(240, RK_TEXT_240, "%120", "%121", "%122", "%123", "%124", "%125", "%126") \
  F(248, RK_TEXT_248, "%124", "%125", "%126", "%127", "%128", "%129", "%130") \
  F(256, RK_TEXT_256, "%128", "%129", "%130", "%131", "%132", "%133", "%134")
// clang-format on
