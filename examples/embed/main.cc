// Loads a model, predicts on one picture and prints the boxes it found.
//   embed .deps/models/blazeface-front .deps/data/skimage/astronaut.png
#include <cstdio>
#include <variant>

#include "base/file.h"
#include "infer/model.h"
#include "media/picture.h"

namespace {

selvage::Result<selvage::infer::Prediction> predict(const char* model_path,
                                                    const char* picture_path) {
  SELVAGE_TRY(const auto runtime, selvage::infer::Runtime::create());
  SELVAGE_TRY(const auto model, selvage::infer::Model::load(*runtime, model_path));
  SELVAGE_TRY(const auto predictor, selvage::infer::Predictor::create(*model));
  SELVAGE_TRY(const auto file, selvage::read_bytes(picture_path, 64u << 20));
  SELVAGE_TRY(const auto picture, selvage::media::decode_picture(file));
  return predictor->predict(picture.view());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: embed MODEL PICTURE\n"), 2;
  const auto found = predict(argv[1], argv[2]);
  if (!found) return std::fprintf(stderr, "embed: %s\n", found.error().message.c_str()), 1;
  if (const auto* boxes = std::get_if<selvage::infer::Boxes>(&*found))
    for (const auto& box : boxes->boxes)
      std::printf("%.2f at %.0f,%.0f to %.0f,%.0f\n", box.best.score, box.left, box.top, box.right,
                  box.bottom);
}
