// node assemble.cjs WABT KERNEL.wat: write the kernel as WebAssembly to the standard output.
const [wabt, kernel] = process.argv.slice(2);
require(wabt)().then((tools) => {
  const text = require("fs").readFileSync(kernel, "utf8");
  process.stdout.write(tools.parseWat(kernel, text, { simd: true }).toBinary({}).buffer);
});
