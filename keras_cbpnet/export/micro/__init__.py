"""The bundle for microcontrollers: one graph that predicts and learns in TFLM, its arena, and C++ around it."""
