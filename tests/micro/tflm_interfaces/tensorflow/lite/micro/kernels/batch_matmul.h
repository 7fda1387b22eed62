// Interfaces for tests, not TFLM: see README.md.
#pragma once
