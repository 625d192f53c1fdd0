// Matrices in memory, read and written a few elements at a time: whatever their sizes and addresses, what is not in them reads as 0
// and is not written.
#pragma once

#include "lib/types.cuh"

template <int W = 4>
__device__ __forceinline__ Vec<W> zeros() {
    Vec<W> x;
#pragma unroll
    for (int i = 0; i < W; i++) x[i] = 0.0f;
    return x;
}

// A matrix in memory: element (row, column) at data[row·stride + column]. W elements are read or written at once, from columns
// that are multiples of W on: in accesses of up to 16 bytes where addresses allow, else one by one. A CAUSAL matrix has only
// columns up to its row's number; the memory beyond is not touched, since anything may be there.
template <typename T, int W = 4, bool CAUSAL = false>
struct Matrix {
    T* data;
    size_t stride;
    int rows, columns;
    bool wide;

    __device__ __forceinline__ Matrix(T* data, size_t stride, int rows, int columns)
        : data(data), stride(stride), rows(rows), columns(columns) {
        constexpr size_t BYTES = W * sizeof(T) < 16 ? W * sizeof(T) : 16;
        wide = reinterpret_cast<size_t>(data) % BYTES == 0 && stride * sizeof(T) % BYTES == 0;
    }

    // How many of the elements from column on are in the row.
    __device__ __forceinline__ int left(int row, int column) const {
        return row < rows ? (CAUSAL ? min(columns, row + 1) : columns) - column : 0;
    }
    // W elements; 0 for those that are not in the matrix.
    __device__ __forceinline__ Vec<W> get(int row, int column) const {
        const int n = left(row, column);
        const T* p = data + row * stride + column;
        Vec<W> x = zeros<W>();
        if (wide && n >= W) {
            x = load<W>(p);
        } else {
#pragma unroll
            for (int i = 0; i < W; i++)
                if (i < n) x[i] = widen(p[i]);
        }
        return x;
    }
    // Sets or adds W elements; those that are not in the matrix are left out.
    __device__ __forceinline__ void set(int row, int column, const Vec<W>& x, bool add = false) const {
        const int n = left(row, column);
        T* p = data + row * stride + column;
        if (wide && n >= W) {
            put<W>(p, x, add);
        } else {
#pragma unroll
            for (int i = 0; i < W; i++)
                if (i < n) put<1>(p + i, Vec<1>{{x[i]}}, add);
        }
    }
};

// A matrix whose rows follow each other.
template <int W = 4, typename T>
__device__ __forceinline__ Matrix<T, W> whole(T* data, int rows, int columns) {
    return Matrix<T, W>(data, columns, rows, columns);
}

// Which index of a product's operand runs along memory: k, as in a[m·stride + k], or its row's, as in a[k·stride + m].
enum class Along { K, ROW };
