"""Other runtimes: ONNX Runtime and OpenVINO."""
