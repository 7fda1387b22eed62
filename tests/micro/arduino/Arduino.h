// What the sketch of an Arduino package uses of the Arduino core, on standard input and output.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>

struct Console {
  void begin(unsigned long) {}
  int available() { return 1; }
  int read() { return std::getchar(); }  // -1 at the end
  void print(const char* text) { std::printf("%s", text); }
  void print(int number) { std::printf("%d", number); }
  void println(int number) { std::printf("%d\n", number); }
  void println(double number, int digits) { std::printf("%.*f\n", digits, number); }
};

inline Console Serial;
void setup();
void loop();
