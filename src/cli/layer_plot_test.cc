#include "cli/layer_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/training_curve.h"

namespace selvage::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Names of tensors and files are foreign: no markup, and no byte that XML forbids.
void expect_safe(const std::string& svg) {
  EXPECT_THAT(svg, HasSubstr("a\\x1b[31m&lt;b&gt;&amp;&quot;c&quot;"));
  EXPECT_THAT(svg, Not(HasSubstr("\x1b")));
  EXPECT_THAT(svg, Not(HasSubstr("<b>")));
}
const std::string kHostile = "a\x1b[31m<b>&\"c\"";

TEST(LayerPlot, NamesAreText) {
  compress::LayerDifference layer{.name = kHostile, .type = "Conv"};
  layer.sqnr_db = 12;
  const auto svg = plot_layers("title", {layer});
  expect_safe(svg);
  EXPECT_THAT(svg, HasSubstr("(Conv): 12.0 dB"));
  expect_safe(plot_layers(kHostile, {}));
}

TEST(TrainingCurve, TitlesAreText) {
  learn::EpochRecord record;
  record.epoch = 1;
  record.train_loss = 0.5;
  expect_safe(plot_training(kHostile, std::vector{record}));
}

}  // namespace
}  // namespace selvage::cli
