"""What only the chapters of the book use: ablations, cold start, IDGenRec, power, the explorer, tables, figures."""
