#include <iostream>

#include "cli/app.h"

int main(int argc, char** argv) {
  return selvage::cli::run_program(argc, argv, SELVAGE_VERSION, std::cout, std::cerr);
}
