;; The playground's only fast part: a matrix of int8 numbers, one scale a row, times a vector of float32.
;; It does what plainMultiply in model.js does, sixteen columns at a time, in four sums that run side by side.

(module
  (import "rwkv" "memory" (memory 1))

  ;; four numbers of x at $at, times four int8 numbers that were widened to int32
  (func $four (param $at i32) (param $numbers v128) (result v128)
    (f32x4.mul (f32x4.convert_i32x4_s (local.get $numbers)) (v128.load (local.get $at))))

  ;; addresses of the int8 numbers, the scales, x and y, in bytes; the number of columns is a multiple of 16
  (func (export "multiply")
    (param $numbers i32) (param $scales i32) (param $x i32) (param $y i32) (param $rows i32) (param $columns i32)
    (local $at i32) (local $end i32) (local $bytes v128) (local $low v128) (local $high v128)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local.set $end (i32.add (local.get $x) (i32.shl (local.get $columns) (i32.const 2))))
    (loop $row
      (local.set $a (v128.const f32x4 0 0 0 0))
      (local.set $b (local.get $a))
      (local.set $c (local.get $a))
      (local.set $d (local.get $a))
      (local.set $at (local.get $x))
      (loop $sixteen
        (local.set $bytes (v128.load (local.get $numbers)))
        (local.set $low (i16x8.extend_low_i8x16_s (local.get $bytes)))
        (local.set $high (i16x8.extend_high_i8x16_s (local.get $bytes)))
        (local.set $a (f32x4.add (local.get $a)
          (call $four (local.get $at) (i32x4.extend_low_i16x8_s (local.get $low)))))
        (local.set $b (f32x4.add (local.get $b)
          (call $four (i32.add (local.get $at) (i32.const 16)) (i32x4.extend_high_i16x8_s (local.get $low)))))
        (local.set $c (f32x4.add (local.get $c)
          (call $four (i32.add (local.get $at) (i32.const 32)) (i32x4.extend_low_i16x8_s (local.get $high)))))
        (local.set $d (f32x4.add (local.get $d)
          (call $four (i32.add (local.get $at) (i32.const 48)) (i32x4.extend_high_i16x8_s (local.get $high)))))
        (local.set $numbers (i32.add (local.get $numbers) (i32.const 16)))
        (local.set $at (i32.add (local.get $at) (i32.const 64)))
        (br_if $sixteen (i32.lt_u (local.get $at) (local.get $end))))
      (local.set $a (f32x4.add
        (f32x4.add (local.get $a) (local.get $b)) (f32x4.add (local.get $c) (local.get $d))))
      (f32.store (local.get $y) (f32.mul
        (f32.load (local.get $scales))
        (f32.add
          (f32.add (f32x4.extract_lane 0 (local.get $a)) (f32x4.extract_lane 1 (local.get $a)))
          (f32.add (f32x4.extract_lane 2 (local.get $a)) (f32x4.extract_lane 3 (local.get $a))))))
      (local.set $scales (i32.add (local.get $scales) (i32.const 4)))
      (local.set $y (i32.add (local.get $y) (i32.const 4)))
      (local.set $rows (i32.sub (local.get $rows) (i32.const 1)))
      (br_if $row (local.get $rows)))))
