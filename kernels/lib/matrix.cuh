// Matrices in memory, read and written in fours: whatever their sizes and addresses, what is not in them reads as 0 and is not
// written.
#pragma once

#include "lib/types.cuh"

__device__ __forceinline__ Vec<4> zeros() {
    return Vec<4>{{0.0f, 0.0f, 0.0f, 0.0f}};
}

// Whether four neighbouring elements may be read or written at once at every fourth column: 16 bytes of float, 8 of bf16.
template <typename T>
__device__ __forceinline__ bool fours(const T* data, size_t stride) {
    return reinterpret_cast<size_t>(data) % (4 * sizeof(T)) == 0 && stride % 4 == 0;
}

// A matrix in memory: element (row, column) at data[row·stride + column]. A CAUSAL one has only columns up to its row's number;
// the memory beyond is not touched, since anything may be there.
template <typename T, bool CAUSAL = false>
struct Matrix {
    T* data;
    size_t stride;
    int rows, columns;
    bool wide;

    __device__ __forceinline__ Matrix(T* data, size_t stride, int rows, int columns)
        : data(data), stride(stride), rows(rows), columns(columns), wide(fours(data, stride)) {}

    // How many of the elements from column on are in the row.
    __device__ __forceinline__ int left(int row, int column) const {
        return row < rows ? (CAUSAL ? min(columns, row + 1) : columns) - column : 0;
    }
    // Four elements from a column that is a multiple of 4 on; 0 for those that are not in the matrix.
    __device__ __forceinline__ Vec<4> get(int row, int column) const {
        const int n = left(row, column);
        const T* p = data + row * stride + column;
        Vec<4> x = zeros();
        if (wide && n >= 4) {
            x = load<4>(p);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (i < n) x[i] = widen(p[i]);
        }
        return x;
    }
    // Sets or adds four elements; those that are not in the matrix are left out.
    __device__ __forceinline__ void set(int row, int column, const Vec<4>& x, bool add = false) const {
        const int n = left(row, column);
        T* p = data + row * stride + column;
        if (wide && n >= 4) {
            put<4>(p, x, add);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (i < n) put<1>(p + i, Vec<1>{{x[i]}}, add);
        }
    }
};

// A matrix whose rows follow each other.
template <typename T>
__device__ __forceinline__ Matrix<T> whole(T* data, int rows, int columns) {
    return Matrix<T>(data, columns, rows, columns);
}

// Four neighbours of a vector of n elements, zeros where there is none.
template <typename T>
__device__ __forceinline__ Vec<4> get_four(const T* data, int n, int at) {
    return data == nullptr ? zeros() : Matrix<const T>(data, 0, 1, n).get(0, at);
}
