// By this header Arduino's tools find TFLM; it is empty there too.
#pragma once
