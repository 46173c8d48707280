#include "infer/config_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::infer {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(ConfigKeys, AMisspeltOneIsRefusedWithTheNearest) {
  for (const auto* key : {"session.dynamic_block_base", "session.intra_op.allow_spinning",
                          "mlas.use_lut_gemm", "ep.cuda.use_arena"})
    EXPECT_TRUE(check_config_key(key, "1.30.0")) << key;
  const auto misspelt = check_config_key("session.dynamic_blok_base", "1.30.0");
  ASSERT_FALSE(misspelt);
  EXPECT_EQ(misspelt.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(misspelt.error().message, HasSubstr("did you mean 'session.dynamic_block_base'?"));
  const auto foreign = check_config_key("colour", "1.30.0");
  ASSERT_FALSE(foreign);
  EXPECT_THAT(foreign.error().message, Not(HasSubstr("did you mean")));
}

TEST(ConfigKeys, ACardCannotChooseFilesOfThisMachine) {
  EXPECT_FALSE(check_config_key("session.collect_node_memory_stats_to_file", "1.30.0"));
  EXPECT_FALSE(check_config_key("session.model_external_initializers_file_folder_path", "1.30.0"));
}

TEST(ConfigKeys, ANewerRuntimeMayHaveOthers) {
  EXPECT_TRUE(check_config_key("session.of_tomorrow", "1.31.0"));
  EXPECT_TRUE(check_config_key("session.of_tomorrow", "2.0.0"));
  EXPECT_FALSE(check_config_key("session.of_tomorrow", "1.30.2"));
}

}  // namespace
}  // namespace selvage::infer
