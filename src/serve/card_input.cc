#include "serve/card_input.h"

#include <algorithm>

#include "media/table.h"

namespace selvage::serve {
namespace {

// A cell's number, or its place in the card's categories.
Result<double> value_of(const media::Table& table, std::size_t row, std::size_t column,
                        const infer::Column& card) {
  const auto cell = table.cell(row, column);
  const auto found = std::ranges::find(card.categories, cell);
  if (found == card.categories.end())
    return fail(ErrorCode::kInvalidArgument, "row " + std::to_string(row + 1) + ", column '" +
                                                 card.name + "': the model card has no category '" +
                                                 std::string(cell) + "'");
  return static_cast<double>(found - card.categories.begin());
}

Result<void> read_rows(const infer::TableInput& card, std::span<const std::byte> body,
                       CardInputs& to) {
  SELVAGE_TRY(const auto table, media::parse_csv(body));
  if (table.rows() > kRowsMax)
    return fail(ErrorCode::kOutOfRange, "more than " + std::to_string(kRowsMax) + " rows");
  to.rows.resize(table.rows());
  const std::size_t columns = card.columns.empty() ? table.columns() : card.columns.size();
  for (std::size_t c = 0; c < columns; ++c) {
    std::size_t index = c;
    if (!card.columns.empty()) {
      SELVAGE_TRY(index, table.column(card.columns[c].name));
    }
    const bool categories = !card.columns.empty() && !card.columns[c].categories.empty();
    std::vector<double> numbers;
    if (!categories) {
      SELVAGE_TRY(numbers, table.numbers(index));
    }
    for (std::size_t row = 0; row < table.rows(); ++row) {
      double value = 0;
      if (categories) {
        SELVAGE_TRY(value, value_of(table, row, index, card.columns[c]));
      } else {
        value = numbers[row];
      }
      to.rows[row].push_back(value);
    }
  }
  for (const auto& row : to.rows) to.inputs.emplace_back(infer::RowView{row});
  return {};
}

}  // namespace

Result<void> decode_card_inputs(const infer::ModelCard& card, std::span<const std::byte> body,
                                CardInputs& to) {
  if (std::holds_alternative<infer::ImageInput>(card.input.kind)) {
    SELVAGE_TRY(to.picture, media::decode_picture(body, {.pixels_max = kPixelsMax}));
    to.inputs.emplace_back(to.picture.view());
    return {};
  }
  if (std::holds_alternative<infer::AudioInput>(card.input.kind)) {
    SELVAGE_TRY(to.sound, media::decode_wav(body));
    to.inputs.emplace_back(
        infer::SoundView{to.sound.samples, static_cast<std::uint32_t>(to.sound.sample_rate)});
    return {};
  }
  if (const auto* table = std::get_if<infer::TableInput>(&card.input.kind))
    return read_rows(*table, body, to);
  return fail(
      ErrorCode::kFailedPrecondition,
      "the model has no card that says what its tensors mean: describe it in model.yaml, or "
      "send tensors to /v2/models/NAME/infer");
}

}  // namespace selvage::serve
