"""Other formats and what runs them: OpenVINO and ONNX Runtime. A new format is written by a file here and called by `export`."""
