# Run by `make install`: the library's front doors and every header that they include.
#   source = the folder src/, destination = where the headers go below the prefix
cmake_policy(VERSION 3.25)
set(queue
  base/clock.h base/exception.h base/file.h base/log.h
  graph/check.h graph/model.h graph/summary.h
  infer/ensemble.h infer/model.h infer/tune.h
  media/array.h media/draw.h media/picture.h media/sound.h media/table.h media/video.h)
set(headers)
while(queue)
  list(POP_FRONT queue header)
  if(header IN_LIST headers)
    continue()
  endif()
  list(APPEND headers ${header})
  file(STRINGS ${source}/${header} includes REGEX "^#include \"")
  foreach(line ${includes})
    string(REGEX REPLACE "^#include \"([^\"]+)\".*" "\\1" included ${line})
    list(APPEND queue ${included})
  endforeach()
endwhile()
foreach(header ${headers})
  get_filename_component(folder ${header} DIRECTORY)
  file(INSTALL ${source}/${header} DESTINATION "${CMAKE_INSTALL_PREFIX}/${destination}/${folder}")
endforeach()
