from seqdistill.io import require

require("matplotlib", "book")
