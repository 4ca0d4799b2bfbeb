from seqdistill.io import require

require("onnxruntime", "serve")
