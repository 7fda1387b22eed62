// Runs a sketch until standard input ends.
#include <Arduino.h>

int main() {
  setup();
  for (;;) {
    const int next = std::getchar();
    if (next < 0) return 0;
    std::ungetc(next, stdin);
    loop();
  }
}
