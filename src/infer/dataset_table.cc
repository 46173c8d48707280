// Samples that are the rows of a CSV file.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/file.h"
#include "infer/dataset_source.h"
#include "infer/preprocess.h"
#include "media/table.h"

namespace selvage::infer {
namespace {

std::unexpected<Error> bad_cell(std::size_t row, const std::string& problem) {
  return fail(ErrorCode::kInvalidArgument, "row " + std::to_string(row + 1) + ": " + problem);
}

/// The label's column: the one that was asked for, or the first of the usual names.
Result<std::optional<std::size_t>> label_column(const media::Table& table,
                                                const std::string& wanted) {
  if (!wanted.empty()) {
    SELVAGE_TRY(const auto column, table.column(wanted));
    return std::optional(column);
  }
  for (const auto* usual : {"label", "class", "target", "y", "Label", "Class", "Target", "Y"})
    if (const auto found = std::ranges::find(table.names(), usual); found != table.names().end())
      return std::optional(static_cast<std::size_t>(found - table.names().begin()));
  return std::nullopt;
}

Result<Targets> targets_of(const media::Table& table, std::size_t column, const ModelCard& card) {
  if (const auto numbers = table.numbers(column)) {
    for (std::size_t row = 0; row < numbers->size(); ++row)
      if (!std::isfinite((*numbers)[row])) return bad_cell(row, "the label is empty");
    const bool whole =
        std::ranges::all_of(*numbers, [](double value) { return value == std::floor(value); });
    return targets_of_numbers(*numbers, 1, whole, card);
  }
  std::vector<std::string_view> names;
  for (std::size_t row = 0; row < table.rows(); ++row) {
    names.push_back(table.cell(row, column));
    if (names.back().empty()) return bad_cell(row, "the label is empty");
  }
  return number_classes(names, card);
}

class TableSource final : public SampleSource {
 public:
  [[nodiscard]] Result<void> load(const media::Table& table, const SourceRequest& request) {
    SELVAGE_TRY(const auto label, label_column(table, request.options.label));
    const auto* card = std::get_if<TableInput>(&request.card.input.kind);
    takes_label = true;
    rows_ = table.rows();
    if (card && !card->columns.empty()) {
      for (const auto& column : card->columns) {
        SELVAGE_TRY(const auto index, table.column(column.name));
        SELVAGE_RETURN_IF_ERROR(add(table, index, column));
      }
    } else {
      for (std::size_t c = 0; c < table.columns(); ++c)
        if (c != label) SELVAGE_RETURN_IF_ERROR(add(table, c, Column{.name = table.names()[c]}));
    }
    if (columns_.empty()) return fail(ErrorCode::kInvalidArgument, "no column but the label's");
    if (label) {
      SELVAGE_TRY(targets, targets_of(table, *label, request.card));
    }
    return {};
  }
  void set_name(std::string name) { name_ = std::move(name); }

  [[nodiscard]] std::size_t size() const override { return rows_; }
  [[nodiscard]] std::string place(std::size_t index) const override {
    return name_ + ", row " + std::to_string(index + 1);
  }
  [[nodiscard]] Result<void> read(std::size_t index, DecodedSample& to) const override {
    to.row.clear();
    for (const auto& column : columns_) to.row.push_back(column[index]);
    to.input = RowView{to.row};
    return {};
  }

 private:
  Result<void> add(const media::Table& table, std::size_t index, const Column& column) {
    std::vector<double> values;
    values.reserve(table.rows());
    for (std::size_t row = 0; row < table.rows(); ++row) {
      const auto value = parse_cell(column, table.cell(row, index));
      if (!value) return bad_cell(row, value.error().message);
      if (!std::isfinite(*value))
        return bad_cell(row, "column '" + column.name + "': '" +
                                 std::string(table.cell(row, index)) + "' is not a finite number");
      values.push_back(*value);
    }
    columns_.push_back(std::move(values));
    return {};
  }

  std::string name_;
  std::size_t rows_ = 0;
  std::vector<std::vector<double>> columns_;
};

}  // namespace

Result<std::unique_ptr<SampleSource>> open_csv(const std::filesystem::path& file,
                                               const SourceRequest& request) {
  SELVAGE_TRY(auto stamp, FileStamp::take(file));
  SELVAGE_TRY(const auto mapped, MappedFile::open(file));
  const auto table = media::parse_csv(mapped.bytes());
  if (!table) return std::unexpected(Error(table.error()).with_context(file.string()));
  auto source = std::make_unique<TableSource>();
  if (auto loaded = source->load(*table, request); !loaded)
    return std::unexpected(std::move(loaded).error().with_context(file.string()));
  source->set_name(file.filename().string());
  source->files.push_back(std::move(stamp));
  return std::unique_ptr<SampleSource>(std::move(source));
}

}  // namespace selvage::infer
