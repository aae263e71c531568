//! The derive macro `Plain` of the crate `procession`, which documents it.

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::{parse_macro_input, Data, DeriveInput, Error, Result};

/// Let a struct lie in shared memory; see `procession::Plain`.
#[proc_macro_derive(Plain)]
pub fn derive_plain(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    plain(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

fn plain(input: &DeriveInput) -> Result<Tokens> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "only a struct is plain: not every number is a variant of an enum, and of a union some bytes are not set",
        ));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a struct with parameters may have padding; derive `Plain` for one without",
        ));
    }
    if !has_layout(input)? {
        return Err(Error::new(
            Span::call_site(),
            "`Plain` needs `#[repr(C)]` or `#[repr(transparent)]`: all processes then see the same layout",
        ));
    }
    let name = &input.ident;
    let types: Vec<_> = data.fields.iter().map(|field| &field.ty).collect();
    Ok(quote! {
        const _: () = {
            const fn is_plain<T: ::procession::Plain>() {}
            const fn is_copy<T: ::core::marker::Copy>() {}
            #(is_plain::<#types>();)*
            is_copy::<#name>();
            ::core::assert!(
                ::core::mem::size_of::<#name>() == 0 #(+ ::core::mem::size_of::<#types>())*,
                "a struct with padding is not plain: order its fields by size, or add one that fills the gap"
            );
            // SAFETY: each field is plain data, so zeroes are a valid value of it.
            unsafe impl ::procession::__private::Zeroable for #name {}
            // SAFETY: its layout is defined, each field is plain data, and there are no bytes besides them.
            unsafe impl ::procession::__private::Pod for #name {}
        };
    })
}

/// Whether its layout is that of C, or of its one field.
fn has_layout(input: &DeriveInput) -> Result<bool> {
    let mut found = false;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
            if meta.input.peek(syn::token::Paren) {
                // The number of `align(8)` or `packed(1)`.
                let number;
                syn::parenthesized!(number in meta.input);
                number.parse::<syn::LitInt>()?;
            }
            Ok(())
        })?;
    }
    Ok(found)
}
